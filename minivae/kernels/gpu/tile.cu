// One block of 256 threads makes one tile of a product  C[i, j] = sum_k A[i, k] B[k, j].  Matrices, convolutions and their
// gradients differ only in where A and B are read and C is put; this file is the rest.
//
//                       B   j0      j0 + COLUMNS
//                         +---+-------+---+        for k0, k0 + DEPTH, ... :
//                         |   |#######|   | DEPTH      every thread reads its share of the two panels # into registers,
//                         |   |       |   |            while the tensor cores, or the multiply-adds, work on the panels before;
//          A              C                            then puts them into shared memory, k by k, beside those being worked on:
//        +---+------+   +---+-------+---+              two pairs of panels, so one barrier a round is enough
//     i0 |###|      |   |   | tile  |   |
//   ROWS |###|      |   |   |       |   |          The last panels are filled up with zeros, so no size needs to fit.
//        +---+------+   +---+-------+---+
//         DEPTH
//
// An operand (`Matrix` in gemm.cu, `Pixels` in conv.cu, ...) is read in three strokes, so that index arithmetic is done once for all the
// numbers it serves:
//     outer(i)    where row i of A (column j of B) begins         inner(k)    how far k lies from there
//     at(outer, inner)   the number, 0 outside                    ALONG_K     neighbours in memory follow k, not i
#include "common.cu"

#define SIDE 256   // threads of a block
#define DEPTH 16
#define PAD 8      // floats: with it, the 8 x 4 numbers that a warp of tensor cores reads lie in 32 banks

#ifdef TF32
#include "mma.cu"
#define KERNEL(NAME) NAME##_tf32
#else
#include "fma.cu"
#define KERNEL(NAME) NAME##_fp32
#endif

// Tiles: 64 x 64 and 128 x 128; for the few channels of images, 128 x 32 and 256 x 16.
template <int WIDTH> struct Panel {
    float number[DEPTH][WIDTH + PAD];
};

// A thread's share of a panel: COUNT numbers, and the outer places that they come from.
template <int WIDTH, class Operand> struct Share {
    static constexpr int COUNT = WIDTH * DEPTH / SIDE;
    static constexpr int OUTERS = Operand::ALONG_K ? COUNT : 1;
    static constexpr int STEP = Operand::ALONG_K ? SIDE / DEPTH : SIDE / WIDTH;  // from one of its numbers to the next
    typename Operand::Outer outer[OUTERS];
    float number[COUNT];

    __device__ __forceinline__ static int first() { return (int)threadIdx.x / (Operand::ALONG_K ? DEPTH : WIDTH); }
    __device__ __forceinline__ static int along() { return (int)threadIdx.x % (Operand::ALONG_K ? DEPTH : WIDTH); }

    __device__ __forceinline__ Share(const Operand& operand, int i0) {
#pragma unroll
        for (int q = 0; q < OUTERS; ++q) outer[q] = operand.outer(i0 + (Operand::ALONG_K ? first() + q * STEP : along()));
    }

    __device__ __forceinline__ void fetch(const Operand& operand, int k0, int k1) {
        if (Operand::ALONG_K) {
            int k = k0 + along();
            typename Operand::Inner inner = operand.inner(k < k1 ? k : k0);
#pragma unroll
            for (int q = 0; q < COUNT; ++q) number[q] = k < k1 ? operand.at(outer[Operand::ALONG_K ? q : 0], inner) : 0;
        } else {
#pragma unroll
            for (int q = 0; q < COUNT; ++q) {
                int k = k0 + first() + q * STEP;
                number[q] = k < k1 ? operand.at(outer[0], operand.inner(k)) : 0;
            }
        }
    }

    template <class Core> __device__ __forceinline__ void store(const Core& core, Panel<WIDTH>& panel) const {
#pragma unroll
        for (int q = 0; q < COUNT; ++q) {
            int i = Operand::ALONG_K ? first() + q * STEP : along(), k = Operand::ALONG_K ? along() : first() + q * STEP;
            panel.number[k][i] = core.rounded(number[q]);
        }
    }
};

// The tile at (i0, j0), summed over k0 <= k < k1, into result.put(i, j, value).
template <int ROWS, int COLUMNS, class A, class B, class Result>
__device__ __forceinline__ void multiply(const A& a, const B& b, const Result& result, int i0, int j0, int k0, int k1, Panel<ROWS>* of_a,
                                         Panel<COLUMNS>* of_b) {
    Share<ROWS, A> share_a(a, i0);
    Share<COLUMNS, B> share_b(b, j0);
    Core<ROWS, COLUMNS> core;
    if (k0 < k1) {
        share_a.fetch(a, k0, k1);
        share_b.fetch(b, k0, k1);
        share_a.store(core, of_a[0]);
        share_b.store(core, of_b[0]);
    }
    __syncthreads();
    int pair = 0;
    for (int k = k0; k < k1; k += DEPTH, pair = 1 - pair) {
        bool more = k + DEPTH < k1;
        if (more) {
            share_a.fetch(a, k + DEPTH, k1);
            share_b.fetch(b, k + DEPTH, k1);
        }
        core.add(of_a[pair].number, of_b[pair].number);
        if (more) {
            share_a.store(core, of_a[1 - pair]);
            share_b.store(core, of_b[1 - pair]);
        }
        __syncthreads();
    }
    core.put(result, i0, j0);
}

// A dense result, or with several parts the sum of one of them, which add_parts (columns.cu) will finish
struct Result {
    float* c;
    const float* bias;
    int M, N, activation;

    __device__ __forceinline__ void put(int i, int j, float value) const {
        if (i < M && j < N) c[(long long)i * N + j] = activated(bias ? value + bias[j] : value, activation);
    }
};

#define PANELS(ROWS, COLUMNS)                     \
    __shared__ __align__(16) Panel<ROWS> of_a[2]; \
    __shared__ __align__(16) Panel<COLUMNS> of_b[2]
