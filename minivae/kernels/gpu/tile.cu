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
// An operand (`Matrix` in gemm.cu, `Windows` in conv.cu, ...) is read in strokes, so that index arithmetic is done once for all the numbers
// it serves:
//     outer(i)    where row i of A (column j of B) begins         inner(k)    how far k lies from there
//     inside(outer, inner)   whether there is a number; if not, it is 0        address(outer, inner)   where it lies
//     ALONG_K     neighbours in memory follow k, not i                mask    a relu that a gradient goes back through: common.cu
// Where sizes and addresses allow it (QUADS), four neighbours in memory are read at once: a quarter of the arithmetic, too.
//
// A product with few tiles would leave most of the GPU idle: its K is cut into parts, a block each, which join.cu adds up in order.
#include "common.cu"
#include "join.cu"

#define SIDE 256   // threads of a block
#define DEPTH 16

#ifdef TF32
#define PAD 8  // floats: with it, the 8 x 4 numbers that a warp of tensor cores reads lie in 32 banks
#include "mma.cu"
#define KERNEL(NAME) NAME##_tf32
#else
#define PAD 4  // with it, the 16 rows of two fours of k that a warp puts into a panel lie in 32 banks
#include "fma.cu"
#define KERNEL(NAME) NAME##_fp32
#endif

// Tiles: 64 x 64 and 128 x 128; for the few channels of images, 128 x 32 and 256 x 16.
template <int WIDTH> struct Panel {
    float number[DEPTH][WIDTH + PAD];
};

// Which of the operand's numbers a thread reads: `TIMES` times, one or (QUADS) four neighbours, all of one k, so that what belongs to k is
// computed once.  Along k two threads of a warp read 8 neighbours of each of 16 rows; along i the threads lie as the numbers do.
template <int WIDTH, class Operand, bool QUADS> struct Share {
    static constexpr bool ALONG_K = Operand::ALONG_K;
    static constexpr int AT_ONCE = QUADS ? 4 : 1, READERS = WIDTH * DEPTH / AT_ONCE;
    static constexpr int TIMES = READERS < SIDE ? 1 : READERS / SIDE;
    static constexpr int ACROSS = ALONG_K ? DEPTH / AT_ONCE : WIDTH / AT_ONCE / TIMES;  // readers of a row of memory
    static constexpr int STEP = ALONG_K ? SIDE / ACROSS : ACROSS * AT_ONCE;             // i from one time to the next
    typename Operand::Outer outer[TIMES];
    float number[TIMES][AT_ONCE];
    float seen[TIMES][AT_ONCE] = {};  // the relu's values there, or zeros: see `mask_floor`

    __device__ __forceinline__ static int thread() { return (int)threadIdx.x; }
    __device__ __forceinline__ static bool reads() { return READERS >= SIDE || thread() < READERS; }
    // the first of its i, and its k
    __device__ __forceinline__ static int first() {
        if (!ALONG_K) return thread() % ACROSS * AT_ONCE;
        return QUADS ? thread() / 64 * 16 + thread() / 2 % 16 : thread() / ACROSS;
    }
    __device__ __forceinline__ static int deep() {
        if (!ALONG_K) return thread() / ACROSS;
        return QUADS ? thread() / 32 % 2 * 8 + thread() % 2 * 4 : thread() % ACROSS;
    }

    __device__ __forceinline__ Share(const Operand& operand, int i0) {
#pragma unroll
        for (int q = 0; q < TIMES; ++q) outer[q] = operand.outer(i0 + first() + q * STEP);
    }

    __device__ __forceinline__ static void load(float* to, const float* place) {
        if (QUADS) {
            float4 four = __ldg((const float4*)place);  // __ldg: in global memory, whatever the compiler can still tell
            to[0] = four.x, to[AT_ONCE / 4] = four.y, to[AT_ONCE / 2] = four.z, to[AT_ONCE - 1] = four.w;
        } else {
            to[0] = __ldg(place);
        }
    }

    // Nothing here waits for what is read: the products of the panels before lie between fetch and store.
    __device__ __forceinline__ void fetch(const Operand& operand, int k0, int k1) {
        int k = k0 + deep();
        bool there = k < k1 && reads();
        typename Operand::Inner inner = operand.inner(k);  // past the end it is a place that nobody reads
        const Mask mask = operand.mask;
#pragma unroll
        for (int q = 0; q < TIMES; ++q) {
            bool inside = there && operand.inside(outer[q], inner);
            const float* place = operand.address(outer[q], inner);
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) number[q][e] = 0;
            if (inside) load(number[q], place);
            if (inside && mask.there) load(seen[q], beyond(place, mask.to_y));
        }
    }

    template <class Core> __device__ __forceinline__ void store(const Operand& operand, const Core& core, Panel<WIDTH>& panel) {
        if (!reads()) return;
        float floor = mask_floor(operand.mask);
#pragma unroll
        for (int q = 0; q < TIMES; ++q) {
            int i = first() + q * STEP, k = deep();
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                number[q][e] = core.rounded(seen[q][e] > floor ? number[q][e] : 0);
                if (ALONG_K || !QUADS) panel.number[k + e][i] = number[q][e];
            }
            if (!ALONG_K && QUADS)
                *(float4*)&panel.number[k][i] = float4{number[q][0], number[q][AT_ONCE / 4], number[q][AT_ONCE / 2], number[q][AT_ONCE - 1]};
        }
    }
};

// The tile at (i0, j0), summed over k0 <= k < k1, into the core.
template <bool QUADS, int ROWS, int COLUMNS, class A, class B>
__device__ __forceinline__ void add_up(Core<ROWS, COLUMNS>& core, const A& a, const B& b, int i0, int j0, int k0, int k1, Panel<ROWS>* of_a,
                                       Panel<COLUMNS>* of_b) {
    Share<ROWS, A, QUADS> share_a(a, i0);
    Share<COLUMNS, B, QUADS> share_b(b, j0);
    if (k0 < k1) {
        share_a.fetch(a, k0, k1);
        share_b.fetch(b, k0, k1);
        share_a.store(a, core, of_a[0]);
        share_b.store(b, core, of_b[0]);
    }
    __syncthreads();
    int pair = 0;
    // two rounds at once, so that each knows its pair of panels; of a large tile that would be more code than it saves
#pragma unroll(ROWS * COLUMNS < 128 * 128 ? 2 : 1)
    for (int k = k0; k < k1; k += DEPTH, pair = 1 - pair) {
        bool more = k + DEPTH < k1;
        if (more) {
            share_a.fetch(a, k + DEPTH, k1);
            share_b.fetch(b, k + DEPTH, k1);
        }
        core.add(of_a[pair].number, of_b[pair].number);
        if (more) {
            share_a.store(a, core, of_a[1 - pair]);
            share_b.store(b, core, of_b[1 - pair]);
        }
        __syncthreads();
    }
}

// Part `part` of the tile: a share of K, `span` deep.  The sum over the parts goes into result.put(i, j, value), from one of their blocks.
template <int ROWS, int COLUMNS, class A, class B, class Result>
__device__ __forceinline__ void multiply(bool quads, const A& a, const B& b, const Result& result, int i0, int j0, int K, int span,
                                         const Parts& parts, int part, Panel<ROWS>* of_a, Panel<COLUMNS>* of_b) {
    Core<ROWS, COLUMNS> core;
    int k0 = part * span, k1 = K - k0 < span ? K : k0 + span;
    if (quads)
        add_up<true>(core, a, b, i0, j0, k0, k1, of_a, of_b);
    else
        add_up<false>(core, a, b, i0, j0, k0, k1, of_a, of_b);
    if (joined<Core<ROWS, COLUMNS>::SIZE>(core.numbers(), parts, part, &of_a[0].number[0][0])) core.put(result, i0, j0);
}

// A tile's own parts among those of all tiles
template <int ROWS, int COLUMNS> __device__ __forceinline__ Parts parts_of(float* partial, unsigned int* arrived, int tile, int count) {
    return {partial + (long long)tile * count * ROWS * COLUMNS, arrived + tile * count, count};
}

// A matrix, op(A) or the transpose of op(B): count rows of K numbers
template <bool KEEPS_K> struct Matrix {
    static constexpr bool ALONG_K = KEEPS_K;
    struct Outer {
        const float* line;
        bool there;
    };
    typedef long long Inner;
    const float* data;
    int count;
    long long pitch;  // from one line in memory to the next
    Mask mask = {0, false};

    __device__ __forceinline__ Outer outer(int i) const { return {data + (ALONG_K ? i * pitch : i), i < count}; }
    __device__ __forceinline__ Inner inner(int k) const { return ALONG_K ? k : k * pitch; }
    __device__ __forceinline__ bool inside(const Outer& row, Inner) const { return row.there; }
    __device__ __forceinline__ const float* address(const Outer& row, Inner k) const { return row.line + k; }
};

// A dense result
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
