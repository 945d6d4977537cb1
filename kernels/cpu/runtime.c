/* The one thread pool of fastnn, and which vector instructions this machine offers.
 *
 * The pool is a static record; there is no allocation and no lock that anyone waits for.
 *
 *   busy      a call owns the pool, or it is free. Whoever finds it busy works alone.
 *   seats     how many workers may still join the job of the moment, and how many are in it, in one
 *             word: a worker joins by one compare-and-swap, so a caller of `run` that has no tasks
 *             left withdraws the free seats and never waits for a worker that has not woken yet.
 *   doorbell  changes with each job; workers wait on it.
 *
 * Waiting is spinning for a few microseconds, then sleeping in the kernel. Sleeping early is also
 * what makes a busy neighbour harmless: the scheduler lets a thread that slept run at once, and
 * moves the one that we wait for to the core that we left.
 */
#define _GNU_SOURCE
#include "runtime_private.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#if defined(__linux__)
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* ---------------------------------------------------------------- the machine */

/* These checks include the operating system's support for the wide registers. */
int fnn_best_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return FNN_BASE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
        return FNN_AVX2;
    return FNN_AVX512;
#else
    return FNN_BASE;
#endif
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores */
#endif
}

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

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---------------------------------------------------------------- events */

/* A word that some thread changes and others wait for. */
typedef struct {
    alignas(64) atomic_uint word;
    atomic_int sleepers;
} event;

#if defined(__linux__)

static void sleep_while(event *e, unsigned seen)
{
    syscall(SYS_futex, &e->word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake(event *e, int count)
{
    syscall(SYS_futex, &e->word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void reset_sleep(void) {}

#else

static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_condition = PTHREAD_COND_INITIALIZER;

static void sleep_while(event *e, unsigned seen)
{
    pthread_mutex_lock(&sleep_mutex);
    while (atomic_load(&e->word) == seen) pthread_cond_wait(&sleep_condition, &sleep_mutex);
    pthread_mutex_unlock(&sleep_mutex);
}

static void wake(event *e, int count)
{
    (void)e, (void)count;
    pthread_mutex_lock(&sleep_mutex);
    pthread_cond_broadcast(&sleep_condition);
    pthread_mutex_unlock(&sleep_mutex);
}

static void reset_sleep(void)
{
    pthread_mutex_init(&sleep_mutex, NULL);
    pthread_cond_init(&sleep_condition, NULL);
}

#endif

/* Returns when the word is no longer `seen`. */
static void event_wait(event *e, unsigned seen, int64_t spin_nanoseconds)
{
    if (spin_nanoseconds > 0) {
        int64_t end = nanoseconds() + spin_nanoseconds;
        do {
            for (int i = 0; i < 16; i++) {
                if (atomic_load_explicit(&e->word, memory_order_acquire) != seen) return;
                cpu_pause();
            }
        } while (nanoseconds() < end);
    }
    while (atomic_load(&e->word) == seen) {
        atomic_fetch_add(&e->sleepers, 1);
        sleep_while(e, seen);
        atomic_fetch_sub(&e->sleepers, 1);
    }
}

/* After the word was changed by a sequentially consistent operation: a waiter has counted itself as
 * a sleeper before the kernel compares the word, so either we see it here or it sees the change. */
static void event_wake(event *e, int count)
{
    if (atomic_load(&e->sleepers) > 0) wake(e, count);
}

/* ---------------------------------------------------------------- the pool */

enum {
    SEAT = 1 << 16, /* seats: free seats in the high half, workers inside in the low half */
    INSIDE = SEAT - 1
};

/* A call comes again within microseconds in a training loop; a barrier's wait is shorter still. */
static const int64_t SPIN_IDLE = 30000, SPIN_BARRIER = 10000;

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
    int64_t spin;
    event seats;
    event doorbell;
    alignas(64) atomic_long next;
    team_state team;
} pool;

static atomic_int limit = 1, cores = 1;

static int allowed(int threads)
{
    int most = atomic_load_explicit(&limit, memory_order_relaxed);
    return threads < 1 || threads > most ? most : threads;
}

static int64_t spin_time(int size, int64_t nanoseconds)
{
    /* Whoever spins with more threads than cores spins against the thread it waits for. */
    return size > atomic_load_explicit(&cores, memory_order_relaxed) ? 0 : nanoseconds;
}

static void take_tasks(void)
{
    fnn_task task = pool.task;
    void *context = pool.context;
    long tasks = pool.tasks, i;
    while ((i = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < tasks)
        task(context, i);
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
    int64_t spin = 0;
    for (;;) {
        unsigned heard = atomic_load(&pool.doorbell.word);
        int seat = take_seat();
        if (seat == 0) {
            event_wait(&pool.doorbell, heard, spin);
            continue;
        }
        spin = pool.spin;
        if (pool.member)
            pool.member(pool.context, seat, pool.team.size, &pool.team);
        else
            take_tasks();
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
            pool.workers++;
        }
        pthread_attr_destroy(&detached);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return pool.workers < wanted ? pool.workers : wanted;
}

static int take_pool(void)
{
    int free = 0;
    return atomic_compare_exchange_strong(&pool.busy, &free, 1);
}

static void leave_pool(void) { atomic_store_explicit(&pool.busy, 0, memory_order_release); }

static void open_seats(int count)
{
    atomic_store(&pool.seats.word, (unsigned)count * SEAT);
    atomic_fetch_add(&pool.doorbell.word, 1);
    event_wake(&pool.doorbell, count);
}

/* Waits until no seat is free and nobody sits. */
static void wait_for_workers(int64_t spin)
{
    unsigned seats;
    while ((seats = atomic_load(&pool.seats.word)) != 0) event_wait(&pool.seats, seats, spin);
}

static void run(fnn_task fn, void *context, long tasks, int threads)
{
    uint64_t mode = flush_denormals();
    int size = allowed(threads), helpers = 0;
    if (size > tasks) size = (int)tasks;
    if (size > 1 && take_pool()) {
        helpers = start_workers(size - 1);
        if (helpers == 0) leave_pool();
    }
    if (helpers) {
        pool.task = fn;
        pool.member = NULL;
        pool.context = context;
        pool.tasks = tasks;
        pool.spin = spin_time(helpers + 1, SPIN_IDLE);
        atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
        open_seats(helpers);
        take_tasks();
        atomic_fetch_and(&pool.seats.word, INSIDE);
        wait_for_workers(spin_time(helpers + 1, SPIN_BARRIER));
        leave_pool();
    } else {
        for (long i = 0; i < tasks; i++) fn(context, i);
    }
    restore_mode(mode);
}

static void team(fnn_member fn, void *context, int threads)
{
    uint64_t mode = flush_denormals();
    int size = allowed(threads), helpers = 0;
    if (size > 1 && take_pool()) {
        helpers = start_workers(size - 1);
        if (helpers == 0) leave_pool();
    }
    if (helpers) {
        size = helpers + 1;
        pool.member = fn;
        pool.context = context;
        pool.spin = spin_time(size, SPIN_IDLE);
        pool.team.size = size;
        pool.team.spin = spin_time(size, SPIN_BARRIER);
        atomic_store_explicit(&pool.team.arrived, 0, memory_order_relaxed);
        open_seats(helpers);
        fn(context, 0, size, &pool.team);
        wait_for_workers(pool.team.spin);
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
    pool.workers = 0;
    event *events[] = {&pool.seats, &pool.doorbell, &pool.team.turn};
    for (int i = 0; i < 3; i++) {
        atomic_store(&events[i]->word, 0);
        atomic_store(&events[i]->sleepers, 0);
    }
    atomic_store(&pool.busy, 0);
}

/* ---------------------------------------------------------------- for the binding */

static int threads(void) { return allowed(0); }

static fnn_runtime table = {.threads = threads, .run = run, .team = team, .barrier = barrier};

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
