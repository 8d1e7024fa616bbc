// C = act(op(A) op(B) + bias) for row-major matrices, op(X) = X or its transpose, though not both at once.   (M, K), (K, N), (N,) -> (M, N)
//
//     grid   x: tiles down    y: tiles across    z: parts of K, `span` deep
#include "tile.cu"
#include "bias.cu"

// Lines of memory begin at multiples of 16 bytes, so that no four neighbours are parted by an edge
#define QUADS (of_rows.pitch | of_columns.pitch) % 4 == 0 && aligned(a, b)

// The bound on blocks: without it ptxas keeps to the registers of three or four and spills
#define GEMM(NAME, TILE, TRANSPOSE_A, TRANSPOSE_B)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256, TILE == 64 ? 2 : 1)                                                              \
        KERNEL(NAME)(const float* a, const float* b, const float* bias, float* c, float* partial, unsigned int* arrived, int M, int N, \
                     int K, int span, int activation) {                                                                                \
        PANELS(TILE, TILE);                                                                                                            \
        Matrix<!TRANSPOSE_A> of_rows = {a, M, TRANSPOSE_A ? M : K};                                                                    \
        Matrix<TRANSPOSE_B> of_columns = {b, N, TRANSPOSE_B ? K : N};                                                                  \
        Result result = {c, bias, M, N, activation};                                                                                   \
        Parts parts = parts_of<TILE, TILE>(partial, arrived, blockIdx.y * gridDim.x + blockIdx.x, gridDim.z);                          \
        multiply<TILE, TILE>(QUADS, of_rows, of_columns, result, blockIdx.x * TILE, blockIdx.y * TILE, K, span, parts, blockIdx.z,     \
                             of_a, of_b);                                                                                              \
    }

GEMM(gemm64_nn, 64, false, false)
GEMM(gemm64_nt, 64, false, true)
GEMM(gemm64_tn, 64, true, false)
GEMM(gemm128_nn, 128, false, false)
GEMM(gemm128_nt, 128, false, true)
GEMM(gemm128_tn, 128, true, false)

// All gradients of y = relu(x w + b) or x w + b in one launch, of which each may be left out: with gs = g where y > 0, or g without y,
//
//     gx = gs w^T     gw = x^T gs     gb = sum over rows of gs             (N, O) (O, I)     (I, N) (N, O)     (O,)
//
//     blocks     those of gx, its parts beside each other, tile after tile | those of gw | those of gb
#define DENSE(NAME, TILE)                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, TILE == 64 ? 2 : 1) KERNEL(NAME)(                                                \
        const float* g, const float* y, const float* x, const float* w, float* gx, float* gw, float* gb, float* partial,               \
        unsigned int* arrived, int N, int I, int O, int span_x, int span_w, int span_b, int blocks_x, int blocks_w) {                  \
        PANELS(TILE, TILE);                                                                                                            \
        Mask mask = mask_of(g, y);                                                                                                     \
        int block = blockIdx.x, parts_x = (O + span_x - 1) / span_x, parts_w = (N + span_w - 1) / span_w;                              \
        long long of_x = parts_x > 1 ? (long long)blocks_x * TILE * TILE : 0, of_w = parts_w > 1 ? (long long)blocks_w * TILE * TILE : 0; \
        if (block < blocks_x) {                                                                                                        \
            Matrix<true> of_rows = {g, N, O, mask}, of_columns = {w, I, O};                                                            \
            Result result = {gx, nullptr, N, I, 0};                                                                                    \
            in_turn<TILE>((O & 3) == 0 && aligned(g, w, mask), of_rows, of_columns, result, block, O, span_x, partial, arrived, of_a, \
                          of_b);                                                                                                       \
        } else if (block < blocks_x + blocks_w) {                                                                                      \
            Matrix<false> of_rows = {x, I, I}, of_columns = {g, O, O, mask};                                                           \
            Result result = {gw, nullptr, I, O, 0};                                                                                    \
            in_turn<TILE>(((I | O) & 3) == 0 && aligned(x, g, mask), of_rows, of_columns, result, block - blocks_x, N, span_w,         \
                          partial + of_x, arrived + BLOCKS, of_a, of_b);                                                               \
        } else {                                                                                                                       \
            bias_gradient(g, mask, gb, N, O, span_b, partial + of_x + of_w, arrived + 2 * BLOCKS, block - blocks_x - blocks_w,         \
                          &of_a[0].number[0][0]);                                                                                      \
        }                                                                                                                              \
    }

// Block number `block` of a product of M x N tiles whose parts stand beside each other
template <int TILE, class A, class B>
__device__ __forceinline__ void in_turn(bool quads, const A& a, const B& b, const Result& result, int block, int K, int span,
                                        float* partial, unsigned int* arrived, Panel<TILE>* of_a, Panel<TILE>* of_b) {
    int parts = K > span ? (K + span - 1) / span : 1, tile = block / parts, down = (result.M + TILE - 1) / TILE;
    multiply<TILE, TILE>(quads, a, b, result, tile % down * TILE, tile / down * TILE, K, span,
                         parts_of<TILE, TILE>(partial, arrived, tile, parts), block % parts, of_a, of_b);
}

DENSE(dense64_gradients, 64)
DENSE(dense128_gradients, 128)

// Many products of one size in one launch, as matmul broadcasts them.   C[p] = op(A[p]) op(B[p])
//
//     grid   x: tiles down, product after product    y: tiles across
//
// Product p of C lies behind product p - 1; where its factors lie says Batch: p is counted through the leading axes, innermost fastest,
// and a step along an axis moves so far in A and in B, or not at all where one matrix serves the whole axis.
#define AXES 8

struct Batch {
    int axes;
    int size[AXES];
    long long of_a[AXES], of_b[AXES];
};

#define GEMM_BATCH(NAME, TRANSPOSE_A, TRANSPOSE_B)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                                               \
        KERNEL(NAME)(const float* a, const float* b, float* c, Batch batch, int M, int N, int K) {                                     \
        PANELS(64, 64);                                                                                                                \
        int down = (M + 63) / 64, product = (int)blockIdx.x / down;                                                                    \
        c += (long long)product * M * N;                                                                                               \
        for (int axis = batch.axes - 1; axis >= 0; --axis) {                                                                           \
            a += product % batch.size[axis] * batch.of_a[axis];                                                                        \
            b += product % batch.size[axis] * batch.of_b[axis];                                                                        \
            product /= batch.size[axis];                                                                                               \
        }                                                                                                                              \
        Matrix<!TRANSPOSE_A> of_rows = {a, M, TRANSPOSE_A ? M : K};                                                                    \
        Matrix<TRANSPOSE_B> of_columns = {b, N, TRANSPOSE_B ? K : N};                                                                  \
        Result result = {c, nullptr, M, N, 0};                                                                                         \
        multiply<64, 64>(QUADS, of_rows, of_columns, result, (int)blockIdx.x % down * 64, blockIdx.y * 64, K, K,                       \
                         Parts{nullptr, nullptr, 1}, 0, of_a, of_b);                                                                   \
    }

GEMM_BATCH(gemm_batch_nn, false, false)
GEMM_BATCH(gemm_batch_nt, false, true)
GEMM_BATCH(gemm_batch_tn, true, false)
