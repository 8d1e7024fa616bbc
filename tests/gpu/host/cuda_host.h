// Runs CUDA C kernels on the CPU, one block after another; every thread of a block is a coroutine that runs until it meets a barrier.
//
// What it finds: a barrier that some threads do not reach, or that they reach at another line of the source; a thread that returns while others
// wait; an access outside of an array (the arrays lie beside pages that may not be touched).  Shared memory holds NaN when a block starts.
// A missing barrier shows as a wrong result: in one of the two orders of threads, first to last or last to first, somebody comes too early.
// What it cannot find: races within one stretch between barriers that both orders resolve alike.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>

#define CUDA_HOST
#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads() cuda_host::wait(cuda_host::AT_BLOCK, __LINE__)
#define __syncwarp(...) cuda_host::wait(cuda_host::AT_WARP, __LINE__)
#define __shfl_xor_sync(mask, value, distance) cuda_host::exchange(mask, value, cuda_host::now->lane ^ (distance), __LINE__)

struct dim3 { unsigned x, y, z; };
struct __attribute__((aligned(16))) float4 { float x, y, z, w; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
extern "C" __attribute__((weak, visibility("hidden"))) unsigned __start_shared_memory[], __stop_shared_memory[];

template <class T> static inline T __ldg(const T* place) { return *place; }
template <class T> static inline T __ldcg(const T* place) { return *place; }
static inline void __threadfence() {}
static inline unsigned atomicAdd(unsigned* place, unsigned value) { unsigned before = *place; *place += value; return before; }
static inline float __int_as_float(int bits) { float x; std::memcpy(&x, &bits, 4); return x; }
static inline const float* beyond(const float* number, int times, int bytes) {
    return (const float*)((const char*)number + (long long)times * bytes);
}
static inline int __float_as_int(float x) { int bits; std::memcpy(&bits, &x, 4); return bits; }

namespace cuda_host {

enum State { READY, AT_WARP, AT_BLOCK, DONE };
const int MOST = 1024, STACK = 1 << 15, WARP = 32;

struct Thread { ucontext_t start; jmp_buf place; bool started; State state; int line, lane, warp; dim3 index; };

static Thread threads[MOST];
static char* stacks;
static Thread* now;
static jmp_buf scheduler;
static sigjmp_buf fault;
static ucontext_t home;
static void (*body)(void**);
static void** arguments;
static unsigned deposit[MOST / WARP][WARP][8];
static char message[256];

static void wait(State state, int line) {
    now->state = state;
    now->line = line;
    if (!_setjmp(now->place)) _longjmp(scheduler, 1);
}

template <class T> static T exchange(unsigned, T value, int source, int line) {
    static_assert(sizeof(T) <= 32, "a lane deposits at most 32 bytes");
    std::memcpy(deposit[now->warp][now->lane], &value, sizeof(T));
    wait(AT_WARP, line);
    std::memcpy(&value, deposit[now->warp][source % WARP], sizeof(T));
    wait(AT_WARP, -line);
    return value;
}

static void run_thread() {
    body(arguments);
    now->state = DONE;
    _longjmp(scheduler, 1);
}

static void resume(Thread* thread) {
    now = thread;
    threadIdx = thread->index;
    if (_setjmp(scheduler)) return;
    if (thread->started) _longjmp(thread->place, 1);
    thread->started = true;
    swapcontext(&home, &thread->start);
}

// Lets the threads first ... last - 1 go on if all of them wait at the same line.  -1: they never will.
static int release(int first, int last, State state) {
    int waiting = 0, done = 0;
    Thread* one = nullptr;
    for (int i = first; i < last; ++i) {
        waiting += threads[i].state == state;
        done += threads[i].state == DONE;
        if (threads[i].state == state) {
            if (one && one->line != threads[i].line) {
                std::snprintf(message, sizeof message, "threads %d and %d wait at different barriers", int(one - threads), i);
                return -1;
            }
            one = &threads[i];
        }
    }
    if (!waiting || waiting + done < last - first) return 0;
    if (done) {
        std::snprintf(message, sizeof message, "%d threads returned while %d wait at a barrier", done, waiting);
        return -1;
    }
    for (int i = first; i < last; ++i) threads[i].state = READY;
    return 1;
}

static bool run_block(int n, bool backwards) {
    for (unsigned* word = __start_shared_memory; word < __stop_shared_memory; ++word) *word = 0x7fc00000;  // NaN
    for (int i = 0; i < n; ++i) {
        Thread& t = threads[i];
        getcontext(&t.start);
        t.start.uc_stack.ss_sp = stacks + size_t(i) * STACK;
        t.start.uc_stack.ss_size = STACK;
        t.start.uc_link = nullptr;
        makecontext(&t.start, run_thread, 0);
        t.started = false;
        t.state = READY;
        t.lane = i % WARP;
        t.warp = i / WARP;
        t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    }
    for (;;) {
        int ran = 0, released = 0, done = 0;
        for (int k = 0; k < n; ++k) {
            Thread* t = &threads[backwards ? n - 1 - k : k];
            if (t->state == READY) resume(t), ++ran;
        }
        for (int first = 0; first < n; first += WARP) {
            int result = release(first, first + WARP < n ? first + WARP : n, AT_WARP);
            if (result < 0) return false;
            released += result;
        }
        if (released) continue;
        int result = release(0, n, AT_BLOCK);
        if (result < 0) return false;
        for (int i = 0; i < n; ++i) done += threads[i].state == DONE;
        if (done == n) return true;
        if (!result && !ran) {
            std::snprintf(message, sizeof message, "some threads wait for their warp, others for their block");
            return false;
        }
    }
}

static void on_fault(int) { siglongjmp(fault, 1); }

static const char* run(void (*kernel)(void**), const unsigned* grid, const unsigned* block, void** values, int backwards) {
    if (!stacks) stacks = (char*)mmap(nullptr, size_t(MOST) * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    body = kernel;
    arguments = values;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    struct sigaction action = {}, segv, bus;
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, &segv);
    sigaction(SIGBUS, &action, &bus);
    message[0] = 0;
    unsigned long long blocks = (unsigned long long)grid[0] * grid[1] * grid[2];
    if (sigsetjmp(fault, 1)) {
        std::snprintf(message, sizeof message, "thread (%u, %u, %u) of block (%u, %u, %u) reached outside of an array", threadIdx.x,
                      threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
    } else {
        for (unsigned long long k = 0; k < blocks; ++k) {
            unsigned long long b = backwards ? blocks - 1 - k : k;
            blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
            if (!run_block(block[0] * block[1] * block[2], backwards)) break;
        }
    }
    sigaction(SIGSEGV, &segv, nullptr);
    sigaction(SIGBUS, &bus, nullptr);
    return message;
}

}  // namespace cuda_host

// What `mma.sync.aligned.m16n8k8` does, by the fragment layout of the PTX manual (section 9.7.14): with g = lane / 4 and t = lane % 4,
// a = A[g][t], A[g+8][t], A[g][t+4], A[g+8][t+4];  b = B[t][g], B[t+4][g];  c = C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1].
static inline unsigned to_tf32(float x) {  // 10 bits of fraction, to nearest, ties away from zero: cvt.rna.tf32.f32
    unsigned bits = __float_as_int(x);
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
}

struct Fragments { unsigned a[4], b[2]; };

static inline void mma_tf32(float* c, const unsigned* a, const unsigned* b) {
    using namespace cuda_host;
    Fragments own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    std::memcpy(deposit[now->warp][now->lane], &own, sizeof own);
    wait(AT_WARP, __LINE__);
    int g = now->lane / 4, t = now->lane % 4;
    for (int q = 0; q < 4; ++q) {
        int column = 2 * t + q % 2;
        for (int k = 0; k < 8; ++k) {
            const Fragments* of_a = (const Fragments*)deposit[now->warp][g * 4 + k % 4];
            const Fragments* of_b = (const Fragments*)deposit[now->warp][column * 4 + k % 4];
            c[q] += __int_as_float(of_a->a[q / 2 + 2 * (k / 4)]) * __int_as_float(of_b->b[k / 4]);
        }
    }
    wait(AT_WARP, __LINE__);
}
