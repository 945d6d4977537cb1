/* Runs a kernel: every device thread is a fiber, all in one OS thread, one after the other.
 *
 * Blocks run one by one. Where all threads of the running blocks only wait (for a flag that no one
 * has set yet), the next blocks are started beside them, up to `resident` of them: so blocks that
 * wait for each other work as they do on a card that holds them all, and a grid that a card of that
 * size could not hold is told as a deadlock, where the card would hang. The blocks of a cluster start
 * together.
 *
 * Static shared memory is one section of the kernel's library; it is saved and restored when another
 * block goes on. Shared memory is filled with 0xff (NaN) before a block starts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <memory>
#include <string>
#include <vector>

struct uint3 {
    unsigned x, y, z;
};

extern "C" {
uint3 threadIdx, blockIdx, blockDim, gridDim;
}

namespace {

constexpr size_t STACK = 256 << 10;
constexpr unsigned WARP = 32;
constexpr int IDLE_ROUNDS = 2000; /* of nothing but waiting, before it is called a deadlock */

struct Block;

struct Fiber {
    void *stack_pointer;
    char *stack;
    Block *block;
    uint3 thread;
    unsigned number;              /* in the block */
    const unsigned *waits_on;     /* not to be run while *waits_on == waits_while */
    unsigned waits_while;
    unsigned cluster_seen;        /* the cluster's generation at this thread's last arrival */
    bool done, yielded;
};

struct Warp {
    unsigned live, arrived, wanted[WARP], released[WARP];
    unsigned char value[WARP][32];
};

struct Cluster;

struct Block {
    uint3 place;
    unsigned rank;
    std::vector<Fiber *> fibers;
    std::vector<Warp> warps;
    unsigned live, arrived, generation;
    unsigned long vote, result, voters, result_voters;
    std::vector<char> static_shared;
    char *dynamic_shared;
    Cluster *cluster;
};

struct Cluster {
    std::vector<std::unique_ptr<Block>> blocks;
    unsigned live, arrived, generation;
    bool finished() const { return live == 0; }
};

struct Launch {
    void (*entry)(void **);
    void **args;
    char *section;
    size_t section_size, dynamic_size;
};

Launch *launch;
Fiber *current;
void *scheduler_pointer;
std::string failure;
std::vector<char *> free_stacks;

extern "C" void fnn_switch(void **save, void *load);

#if defined(__x86_64__)
asm(R"(
.text
.type fnn_switch, @function
fnn_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fnn_switch, .-fnn_switch
)");

void *first_frame(char *stack, void (*start)())
{
    uint64_t *top = reinterpret_cast<uint64_t *>(stack + STACK - 72);
    /* At the start of a function the stack pointer is 8 past a multiple of 16. */
    top[0] = 0;
    top[-1] = reinterpret_cast<uint64_t>(start);
    for (int i = 2; i <= 7; i++)
        top[-i] = 0;
    return top - 7;
}
#else
#error "tests/cuda_emulator: the fibers are written for x86-64"
#endif

void switch_to_scheduler() { fnn_switch(&current->stack_pointer, scheduler_pointer); }

void release_warp(Warp &warp)
{
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(warp.arrived >> lane & 1))
            continue;
        unsigned need = warp.wanted[lane] & warp.live;
        if ((warp.arrived & need) != need)
            continue;
        for (unsigned other = 0; other < WARP; other++)
            if (need >> other & 1)
                warp.released[other]++;
        warp.arrived &= ~need;
    }
}

void release_block(Block &block)
{
    if (block.arrived < block.live || !block.arrived)
        return;
    block.arrived = 0;
    block.result = block.vote;
    block.result_voters = block.voters;
    block.vote = block.voters = 0;
    block.generation++;
}

void release_cluster(Cluster &cluster)
{
    if (cluster.arrived < cluster.live || !cluster.arrived)
        return;
    cluster.arrived = 0;
    cluster.generation++;
}

void wait_while(const unsigned *word, unsigned value)
{
    if (*word != value)
        return;
    current->waits_on = word;
    current->waits_while = value;
    switch_to_scheduler();
}

void start_fiber()
{
    launch->entry(launch->args);
    Fiber *self = current;
    Block &block = *self->block;
    Warp &warp = block.warps[self->number / WARP];
    self->done = true;
    warp.live &= ~(1u << self->number % WARP);
    block.live--;
    block.cluster->live--;
    release_warp(warp);
    release_block(block);
    release_cluster(*block.cluster);
    switch_to_scheduler();
    abort();
}

Fiber *make_fiber(Block *block, unsigned number)
{
    Fiber *fiber = new Fiber();
    if (free_stacks.empty()) {
        void *memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            perror("cuda_emulator");
            abort();
        }
        mprotect(memory, 4096, PROT_NONE); /* an overflow stops here */
        free_stacks.push_back(static_cast<char *>(memory));
    }
    fiber->stack = free_stacks.back();
    free_stacks.pop_back();
    fiber->block = block;
    fiber->number = number;
    fiber->thread = {number % blockDim.x, number / blockDim.x % blockDim.y,
                     number / blockDim.x / blockDim.y};
    fiber->stack_pointer = first_frame(fiber->stack, start_fiber);
    return fiber;
}

std::unique_ptr<Cluster> make_cluster(unsigned long first, unsigned size)
{
    auto cluster = std::make_unique<Cluster>();
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    cluster->live = threads * size;
    for (unsigned rank = 0; rank < size; rank++) {
        auto block = std::make_unique<Block>();
        unsigned long number = first + rank;
        block->place = {unsigned(number % gridDim.x), unsigned(number / gridDim.x % gridDim.y),
                        unsigned(number / gridDim.x / gridDim.y)};
        block->rank = rank;
        block->cluster = cluster.get();
        block->live = threads;
        block->warps.resize((threads + WARP - 1) / WARP);
        for (unsigned i = 0; i < threads; i++) {
            block->fibers.push_back(make_fiber(block.get(), i));
            block->warps[i / WARP].live |= 1u << i % WARP;
        }
        block->static_shared.assign(launch->section_size, char(0xff));
        block->dynamic_shared =
            static_cast<char *>(aligned_alloc(128, (launch->dynamic_size + 255) / 128 * 128));
        memset(block->dynamic_shared, 0xff, launch->dynamic_size);
        memset(block->dynamic_shared + launch->dynamic_size, 0xa5, 128); /* a canary */
        cluster->blocks.push_back(std::move(block));
    }
    return cluster;
}

void free_cluster(Cluster &cluster)
{
    for (auto &block : cluster.blocks) {
        for (int i = 0; i < 128; i++)
            if (failure.empty() &&
                (unsigned char)block->dynamic_shared[launch->dynamic_size + i] != 0xa5)
                failure = "a write past the end of the dynamic shared memory";
        for (Fiber *fiber : block->fibers) {
            free_stacks.push_back(fiber->stack);
            delete fiber;
        }
        free(block->dynamic_shared);
    }
}

/* One pass over the threads of a block; true if one did more than wait. */
bool run_block(Block &block, Block *&loaded, uint64_t &random, int order)
{
    bool moved = false;
    size_t count = block.fibers.size();
    random = random * 6364136223846793005u + 1442695040888963407u;
    size_t start = order == 2 ? (random >> 33) % count : 0;
    for (size_t i = 0; i < count && failure.empty(); i++) {
        size_t at = order == 1 ? count - 1 - i : (start + i) % count;
        Fiber *fiber = block.fibers[at];
        if (fiber->done || (fiber->waits_on && *fiber->waits_on == fiber->waits_while))
            continue;
        if (loaded != &block) {
            if (launch->section_size) {
                if (loaded)
                    memcpy(loaded->static_shared.data(), launch->section, launch->section_size);
                memcpy(launch->section, block.static_shared.data(), launch->section_size);
            }
            loaded = &block;
        }
        fiber->waits_on = nullptr;
        fiber->yielded = false;
        threadIdx = fiber->thread;
        blockIdx = block.place;
        current = fiber;
        fnn_switch(&scheduler_pointer, fiber->stack_pointer);
        moved |= !fiber->yielded;
    }
    return moved;
}

void run_grid(unsigned cluster_size, unsigned resident, int order)
{
    unsigned long total = (unsigned long)gridDim.x * gridDim.y * gridDim.z, next = 0;
    std::vector<std::unique_ptr<Cluster>> running;
    Block *loaded = nullptr;
    uint64_t random = 88172645463325252u;
    int idle = 0;
    while (failure.empty() && (next < total || !running.empty())) {
        if (running.empty() ||
            (idle > 2 && next < total && (running.size() + 1) * cluster_size <= resident)) {
            /* The reverse order starts with the last block. */
            unsigned long first = order == 1 ? total - cluster_size - next : next;
            running.push_back(make_cluster(first, cluster_size));
            next += cluster_size;
            idle = 0;
        }
        bool moved = false;
        for (auto &cluster : running)
            for (auto &block : cluster->blocks)
                moved |= run_block(*block, loaded, random, order);
        idle = moved ? 0 : idle + 1;
        if (idle > IDLE_ROUNDS)
            failure = next < total ? "a deadlock: blocks wait for blocks that do not fit beside them"
                                   : "a deadlock: every thread waits";
        for (size_t i = 0; i < running.size();) {
            if (!running[i]->finished()) {
                i++;
                continue;
            }
            for (auto &block : running[i]->blocks)
                if (loaded == block.get())
                    loaded = nullptr;
            free_cluster(*running[i]);
            running.erase(running.begin() + i);
        }
    }
    for (auto &cluster : running)
        free_cluster(*cluster);
}

} // namespace

extern "C" {

void fnn_yield(void)
{
    current->yielded = true;
    switch_to_scheduler();
}

void fnn_trap(const char *what)
{
    failure = what;
    switch_to_scheduler();
}

unsigned fnn_block_vote(unsigned value, unsigned *all)
{
    Block &block = *current->block;
    unsigned generation = block.generation;
    block.arrived++;
    block.vote += value;
    block.voters++;
    release_block(block);
    wait_while(&block.generation, generation);
    if (all)
        *all = block.result_voters;
    return block.result;
}

void fnn_block_sync(void) { fnn_block_vote(0, nullptr); }

void fnn_warp_sync(unsigned mask)
{
    Warp &warp = current->block->warps[current->number / WARP];
    unsigned lane = current->number % WARP;
    if (!(mask >> lane & 1)) {
        fnn_trap("a thread that is not in the mask of its own warp primitive");
        return;
    }
    unsigned released = warp.released[lane];
    warp.arrived |= 1u << lane;
    warp.wanted[lane] = mask;
    release_warp(warp);
    wait_while(&warp.released[lane], released);
}

void fnn_warp_exchange(unsigned mask, const void *in, void *out, size_t size, unsigned source)
{
    Warp &warp = current->block->warps[current->number / WARP];
    unsigned lane = current->number % WARP;
    memcpy(warp.value[lane], in, size);
    fnn_warp_sync(mask);
    memcpy(out, warp.value[source % WARP], size);
    fnn_warp_sync(mask);
}

unsigned fnn_warp_ballot(unsigned mask, int predicate)
{
    Warp &warp = current->block->warps[current->number / WARP];
    unsigned lane = current->number % WARP, votes = 0;
    warp.value[lane][0] = predicate != 0;
    fnn_warp_sync(mask);
    for (unsigned other = 0; other < WARP; other++)
        if (mask & warp.live & 1u << other && warp.value[other][0])
            votes |= 1u << other;
    fnn_warp_sync(mask);
    return votes;
}

void *fnn_dynamic_shared(void) { return current->block->dynamic_shared; }

unsigned fnn_cluster_rank(void) { return current->block->rank; }

unsigned fnn_cluster_size(void) { return current->block->cluster->blocks.size(); }

void fnn_cluster_arrive(void)
{
    Cluster &cluster = *current->block->cluster;
    current->cluster_seen = cluster.generation;
    cluster.arrived++;
    release_cluster(cluster);
}

void fnn_cluster_wait(void)
{
    wait_while(&current->block->cluster->generation, current->cluster_seen);
}

void *fnn_cluster_peer(void *shared, unsigned rank)
{
    Block &block = *current->block;
    ptrdiff_t offset = static_cast<char *>(shared) - block.dynamic_shared;
    if (offset < 0 || (size_t)offset >= launch->dynamic_size || rank >= fnn_cluster_size()) {
        fnn_trap("cluster_peer of an address that is not in dynamic shared memory");
        return shared;
    }
    Block &peer = *block.cluster->blocks[rank];
    if (!peer.live)
        fnn_trap("cluster_peer of a block that has ended");
    return peer.dynamic_shared + offset;
}

/* Runs a kernel. 0, or 1 with the reason in `message`. order: 0 first thread first, 1 last thread and
 * last block first, 2 another thread first at every pass. */
int fnn_run(void (*entry)(void **), void **args, const unsigned *grid, const unsigned *block,
            size_t dynamic_size, unsigned cluster_size, char *section, size_t section_size,
            unsigned resident, int order, char *message, size_t message_size)
{
    Launch own = {entry, args, section, section_size, dynamic_size};
    launch = &own;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    failure.clear();
    run_grid(cluster_size, resident, order);
    launch = nullptr;
    if (failure.empty())
        return 0;
    snprintf(message, message_size, "%s", failure.c_str());
    return 1;
}
}
