/* The one thread pool of fastnn.
 *
 * The pool is a static record; there is no allocation and no lock that anyone waits for.
 *
 *   busy      a call owns the pool, or it is free. Whoever finds it busy works alone.
 *   seats     how many workers may still join the job of the moment, and how many are in it, in one
 *             word: a worker joins by one compare-and-swap, so a caller of `run` that has no tasks
 *             left withdraws the free seats and never waits for a worker that has not woken yet.
 *   doorbell  changes with each job; workers wait on it.
 *
 * How they wait: event.h.
 */
#define _GNU_SOURCE
#include "runtime_private.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "event.h"

/* Denormal operands cost up to 100 times a normal one, and vanishing gradients are full of them.
 * Gives the mode from before, for `restore_mode`. */
static inline uint64_t flush_denormals(void)
{
#if defined(__SSE2__)
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040u); /* flush to zero, denormals are zero */
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(before | (UINT64_C(1) << 24)));
    return before;
#else
    return 0;
#endif
}

static inline void restore_mode(uint64_t before)
{
#if defined(__SSE2__)
    __builtin_ia32_ldmxcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(before));
#else
    (void)before;
#endif
}

/* ---------------------------------------------------------------- the pool */

enum {
    SEAT = 1 << 16, /* seats: free seats in the high half, workers inside in the low half */
    INSIDE = SEAT - 1,
    SHARES = 16, /* of the tasks, at most; more threads begin in twos */
    PLACED = 256 /* workers whose CPUs are looked after, at most */
};

enum {
    SPIN_WORK = 100000,  /* ns; a worker waits for the next call: in a training loop it is near */
    SPIN_RARELY = 10000, /* the same, where the last call was long in coming */
    SPIN_MEET = 100000    /* at a barrier, and at the end of a call */
};

typedef struct {
    event turn;
    alignas(64) atomic_int arrived;
    int size;
    int64_t spin;
} team_state;

static struct {
    alignas(64) atomic_int busy;
    int workers;
    /* The job: written by the caller before it opens the seats, read by those who took one. */
    fnn_task task;
    fnn_member member;
    void *context;
    long tasks;
    int size; /* threads of the job, the caller among them */
    event seats;
    event doorbell;
    atomic_llong rung; /* when the doorbell changed */
    atomic_int caller_cpu; /* and where its owner was then */
    struct {
        pthread_t thread;
        int kept; /* the CPU that it is kept from, or -1 */
    } placed[PLACED]; /* the workers, as far as there is room, */
    int kept_from, kept; /* the CPU of the last caller, or -1, and for how many that was looked after */
    /* Of each share of the tasks, neighbours all: the next one. A thread begins with the share of its seat, which it had in
     * the last call too, so that what it wrote or read there may still be in its own cache; then it helps the others. */
    struct {
        alignas(64) atomic_long next;
    } shares[SHARES];
    team_state team;
    alignas(64) atomic_llong cpu; /* what the workers of this team used, in ns */
} pool;

static atomic_int limit = 1, cores = 1;

static int allowed(int threads)
{
    int most = atomic_load_explicit(&limit, memory_order_relaxed);
    return threads < 1 || threads > most ? most : threads;
}

/* More threads than cores: the user has asked for it. */
static int crowded(int size) { return size > atomic_load_explicit(&cores, memory_order_relaxed); }

/* In a crowd a spinning thread may hold the core of the thread that it waits for. */
static int64_t spin_time(int size, int64_t ns) { return crowded(size) ? 0 : ns; }

static long share_count(void) { return pool.size < SHARES ? pool.size : SHARES; }

static long share_begin(long share) { return pool.tasks * share / share_count(); }

static void take_tasks(int seat)
{
    fnn_task task = pool.task;
    void *context = pool.context;
    for (long s = 0, count = share_count(); s < count; s++) {
        long share = (seat + s) % count, end = share_begin(share + 1), i;
        while ((i = atomic_fetch_add_explicit(&pool.shares[share].next, 1, memory_order_relaxed)) < end) task(context, i);
    }
}

/* The number of the seat taken, from 1, or 0 when none was free. */
static int take_seat(void)
{
    unsigned seats = atomic_load_explicit(&pool.seats.word, memory_order_acquire);
    while (seats >= SEAT)
        if (atomic_compare_exchange_weak(&pool.seats.word, &seats, seats - SEAT + 1))
            return (int)(seats / SEAT);
    return 0;
}

static void *worker(void *unused)
{
    (void)unused;
    flush_denormals();
    int64_t idle_since = wall_ns(), spin = 0;
    for (;;) {
        unsigned heard = atomic_load(&pool.doorbell.word);
        int cpu = this_cpu();
        if (cpu == atomic_load_explicit(&pool.caller_cpu, memory_order_relaxed) && !crowded(allowed(0)))
            leave_cpu(cpu);
        int seat = take_seat();
        if (seat == 0) {
            event_wait(&pool.doorbell, heard, spin);
            int64_t rung = atomic_load_explicit(&pool.rung, memory_order_relaxed);
            spin = spin_time(allowed(0), rung - idle_since < SPIN_WORK ? SPIN_WORK : SPIN_RARELY);
            idle_since = rung;
            continue;
        }
        if (pool.member) {
            int64_t before = cpu_ns();
            pool.member(pool.context, seat, pool.size, &pool.team);
            atomic_fetch_add(&pool.cpu, cpu_ns() - before);
        } else {
            take_tasks(seat);
        }
        idle_since = wall_ns();
        if ((atomic_fetch_sub(&pool.seats.word, 1) & INSIDE) == 1) event_wake(&pool.seats, 1);
    }
    return NULL;
}

/* Starts workers until there are `wanted`, or as many as the system gives. Only the owner of the
 * pool comes here. Workers take no signals: those are for the threads that Python knows. */
static int start_workers(int wanted)
{
    if (pool.workers < wanted) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_attr_t detached;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        pthread_t thread;
        while (pool.workers < wanted && pthread_create(&thread, &detached, worker, NULL) == 0) {
#if defined(__linux__)
            pthread_setname_np(thread, "fastnn");
#endif
            if (pool.workers < PLACED) {
                pool.placed[pool.workers].thread = thread;
                pool.placed[pool.workers].kept = -1;
            }
            pool.workers++;
        }
        pthread_attr_destroy(&detached);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return pool.workers < wanted ? pool.workers : wanted;
}

static void leave_pool(void) { atomic_store(&pool.busy, 0); }

/* Makes the caller the pool's owner, with up to `size - 1` workers; gives their number, 0 if the
 * caller stays alone. */
static int take_pool(int size)
{
    int free = 0;
    if (size < 2 || !atomic_compare_exchange_strong(&pool.busy, &free, 1)) return 0;
    int workers = start_workers(size - 1);
    if (workers == 0) leave_pool();
    else pool.size = workers + 1;
    return workers;
}

/* Before workers are woken: a system call for each, but only where the caller has moved. */
static void place_workers(void)
{
    int cpu = crowded(pool.size) ? -1 : this_cpu(), count = pool.workers < PLACED ? pool.workers : PLACED;
    if ((cpu == pool.kept_from && count == pool.kept) || atomic_flag_test_and_set(&moving)) return;
    for (int i = 0; i < count; i++) pool.placed[i].kept = keep_from(cpu, pool.placed[i].kept, pool.placed[i].thread);
    atomic_flag_clear(&moving);
    pool.kept_from = cpu;
    pool.kept = count;
}

static void open_seats(int count)
{
    place_workers();
    atomic_store_explicit(&pool.rung, wall_ns(), memory_order_relaxed);
    atomic_store_explicit(&pool.caller_cpu, this_cpu(), memory_order_relaxed);
    atomic_store(&pool.seats.word, (unsigned)count * SEAT);
    atomic_fetch_add(&pool.doorbell.word, 1);
    event_wake(&pool.doorbell, count);
}

/* Waits until no seat is free and nobody sits. */
static void wait_for_workers(void)
{
    unsigned seats;
    int64_t spin = spin_time(pool.size, SPIN_MEET);
    while ((seats = atomic_load(&pool.seats.word)) != 0) event_wait(&pool.seats, seats, spin);
}

static void run(fnn_task fn, void *context, long tasks, int threads)
{
    uint64_t mode = flush_denormals();
    int size = allowed(threads);
    int workers = take_pool(size < tasks ? size : (int)tasks);
    if (workers) {
        pool.task = fn;
        pool.member = NULL;
        pool.context = context;
        pool.tasks = tasks;
        for (long s = 0; s < share_count(); s++)
            atomic_store_explicit(&pool.shares[s].next, share_begin(s), memory_order_relaxed);
        open_seats(workers);
        take_tasks(0);
        atomic_fetch_and(&pool.seats.word, INSIDE);
        wait_for_workers();
        leave_pool();
    } else {
        for (long i = 0; i < tasks; i++) fn(context, i);
    }
    restore_mode(mode);
}

/* Do teams pay, at present? A member that shares its core with another process makes the whole team
 * wait at each barrier, and the scheduler then packs the team on one core: steps of 2 us were seen
 * to take 6 times as long, where one thread alone takes twice as long. So when the CPU time of
 * teams shows that they had fewer cores than members, they are a member smaller for a while. */
enum {
    SAMPLE = 10000000,     /* ns of teams before a verdict, */
    SAMPLE_AGAIN = 5000000, /* and after a bad one */
    PENALTY = 3,           /* times the sample; what disturbed us once may be gone, */
    PENALTY_GROWTH = 3,    /* what is still there stays for longer, and trying again costs little */
    PENALTY_MOST = 1000000000
};

static struct {
    int64_t wall, possible, used; /* of the sample, in ns; the pool's owner's */
    int64_t penalty;              /* the last one; 0: the last verdict was good */
    atomic_llong small_until;
} teams;

static int worthwhile(int size)
{
    long long until = atomic_load_explicit(&teams.small_until, memory_order_relaxed);
    return size > 1 && until != 0 && !crowded(size) && wall_ns() < until ? size - 1 : size;
}

static void judge(int size, int64_t wall, int64_t used)
{
    if (crowded(size)) return;
    teams.wall += wall;
    teams.possible += wall * size;
    teams.used += used;
    if (teams.wall < (teams.penalty ? SAMPLE_AGAIN : SAMPLE)) return;
    int64_t penalty = teams.penalty ? teams.penalty * PENALTY_GROWTH : teams.wall * PENALTY;
    if (penalty > PENALTY_MOST) penalty = PENALTY_MOST;
    teams.penalty = teams.used < teams.possible / 5 * 3 ? penalty : 0;
    atomic_store_explicit(&teams.small_until, teams.penalty ? wall_ns() + penalty : 0, memory_order_relaxed);
    teams.wall = teams.possible = teams.used = 0;
}

static void team(fnn_member fn, void *context, int threads)
{
    uint64_t mode = flush_denormals();
    int workers = take_pool(worthwhile(allowed(threads)));
    if (workers) {
        int size = workers + 1;
        int64_t wall = wall_ns(), cpu = cpu_ns();
        pool.member = fn;
        pool.context = context;
        pool.team.size = size;
        pool.team.spin = spin_time(size, SPIN_MEET);
        atomic_store_explicit(&pool.team.arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool.cpu, 0, memory_order_relaxed);
        open_seats(workers);
        fn(context, 0, size, &pool.team);
        wait_for_workers();
        judge(size, wall_ns() - wall, cpu_ns() - cpu + atomic_load(&pool.cpu));
        leave_pool();
    } else {
        team_state alone = {.size = 1};
        fn(context, 0, 1, &alone);
    }
    restore_mode(mode);
}

static void barrier(void *of)
{
    team_state *t = of;
    if (t->size == 1) return;
    unsigned turn = atomic_load_explicit(&t->turn.word, memory_order_relaxed);
    if (atomic_fetch_add(&t->arrived, 1) + 1 == t->size) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_fetch_add(&t->turn.word, 1);
        event_wake(&t->turn, t->size - 1);
    } else {
        event_wait(&t->turn, turn, t->spin);
    }
}

/* In the child of a fork only the thread that forked exists: no worker, no owner, no sleeper. */
static void forget_threads(void)
{
    reset_sleep();
    atomic_flag_clear(&moving);
    pool.workers = pool.kept = 0;
    event *events[] = {&pool.seats, &pool.doorbell, &pool.team.turn};
    for (int i = 0; i < 3; i++) {
        atomic_store(&events[i]->word, 0);
        atomic_store(&events[i]->sleepers, 0);
    }
    atomic_store(&pool.busy, 0);
}

/* ---------------------------------------------------------------- for the binding */

static int threads(void) { return allowed(0); }

static fnn_runtime table = {.threads = threads, .run = run, .team = team, .barrier = barrier,
                            .borrow = fnn_borrow, .give_back = fnn_give_back};

const fnn_runtime *fnn_start(int available_cores)
{
    static atomic_flag started = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&started)) pthread_atfork(NULL, NULL, forget_threads);
    atomic_store(&cores, available_cores);
    return &table;
}

void fnn_set_isa(int isa) { __atomic_store_n(&table.isa, isa, __ATOMIC_RELAXED); }

int fastnn_get_num_threads(void) { return allowed(0); }

void fastnn_set_num_threads(int count)
{
    atomic_store(&limit, count < 1 ? 1 : count > FNN_MAX_THREADS ? FNN_MAX_THREADS : count);
}
