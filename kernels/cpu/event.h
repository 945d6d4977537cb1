/* How threads of the pool (runtime.c) wait for each other.
 *
 * Waiting is spinning for a while, then sleeping in the kernel. Spinning pays because a sleeper on
 * an idle core takes long to wake (70 us were measured in a virtual machine); sleeping in the end
 * leaves the core to a busy neighbour, or to the very thread that is waited for.
 * To be included with _GNU_SOURCE defined.
 */
#ifndef FNN_EVENT_H
#define FNN_EVENT_H

#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores */
#endif
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t wall_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
static int64_t cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

/* A thread that was woken on the CPU of the thread that woke it adds nothing there: they take turns of
 * milliseconds, and Linux was seen to leave them together for 50 ms while a process of low priority had the
 * other CPU, or none. So workers are kept from their caller's CPU (`keep_from`), and who finds himself there
 * nevertheless goes elsewhere (`leave_cpu`). */
#if defined(__linux__)
static int this_cpu(void) { return sched_getcpu(); }

/* Both change a thread's mask by what it was, so one at a time; who finds it set leaves it for the next call. */
static atomic_flag moving = ATOMIC_FLAG_INIT;

/* With `moving` set: the thread may no longer use `cpu`, if another is left to it; -1: only what follows. `kept`: the CPU that this
 * took from it before, or -1, which it may use again. Gives the one taken now. */
static int keep_from(int cpu, int kept, pthread_t thread)
{
    cpu_set_t now;
    if (pthread_getaffinity_np(thread, sizeof now, &now)) return -1;
    if (kept >= 0) CPU_SET(kept, &now);
    int take = cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, &now) && CPU_COUNT(&now) > 1;
    if (take) CPU_CLR(cpu, &now);
    if (!take && kept < 0) return -1;
    return pthread_setaffinity_np(thread, sizeof now, &now) ? kept : take ? cpu : -1;
}

static void leave_cpu(int cpu)
{
    cpu_set_t all, others;
    if (cpu < 0 || atomic_flag_test_and_set(&moving)) return;
    if (!sched_getaffinity(0, sizeof all, &all)) {
        others = all;
        CPU_CLR(cpu, &others);
        if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof all, &all);
    }
    atomic_flag_clear(&moving);
}
#else
static int this_cpu(void) { return -1; }
static atomic_flag moving = ATOMIC_FLAG_INIT;
static void leave_cpu(int cpu) { (void)cpu; }
static int keep_from(int cpu, int kept, pthread_t thread) { (void)cpu, (void)kept, (void)thread; return -1; }
#endif

/* A word that some thread changes and others wait for. */
typedef struct {
    alignas(64) atomic_uint word;
    atomic_int sleepers;
    atomic_int cpu; /* of the thread that woke them last */
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
static void event_wait(event *e, unsigned seen, int64_t spin)
{
    if (spin > 0) {
        int64_t end = wall_ns() + spin;
        do {
            for (int i = 0; i < 16; i++) {
                if (atomic_load_explicit(&e->word, memory_order_acquire) != seen) return;
                cpu_pause();
            }
        } while (wall_ns() < end);
    }
    int slept = 0;
    for (; atomic_load(&e->word) == seen; slept = 1) {
        atomic_fetch_add(&e->sleepers, 1);
        sleep_while(e, seen);
        atomic_fetch_sub(&e->sleepers, 1);
    }
    if (!slept || spin <= 0) return; /* in a crowd there is no better place */
    int cpu = this_cpu();
    if (cpu == atomic_load_explicit(&e->cpu, memory_order_relaxed)) leave_cpu(cpu);
}

/* After the word was changed by a sequentially consistent operation: a waiter has counted itself as
 * a sleeper before the kernel compares the word, so either we see it here or it sees the change. */
static void event_wake(event *e, int count)
{
    if (atomic_load(&e->sleepers) <= 0) return;
    atomic_store_explicit(&e->cpu, this_cpu(), memory_order_relaxed);
    wake(e, count);
}

#endif
