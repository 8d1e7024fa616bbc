// What a training step leaves behind: what it has to tell, the norm of each player's gradient, and whether it may move the players.
//
//     gradients  ->  partial[block] = sum of squares of a block's numbers        the last block:
//                    partial  ->  squares[player]                                of the last player's launch:
//                    values, squares of all players  ->  measures, totals, health, rows
//
// All sums are in double and in one order.  Nothing of it need be read by the CPU before the next step.  A row of a captured step lies in
// device memory, so that replaying it moves on.  It belongs to a stream that the step draws from, and to a player's optimizer:
//
//     row[0]  counter of the stream      row[1]  optimizer steps so far      row[2]  the next batch's first image      row[3]  its key
//
// Kernels before this one only read them.  A step that tells of anything that is not finite (health is not 0) does not move on: replayed,
// it is the same step again, until somebody looks.
#include "gradients.cu"
#include "join.cu"

#define STREAMS 64
#define VALUES 24
#define PLAYERS 8

struct Moves {
    unsigned long long blocks[STREAMS];  // of random numbers that were drawn
    unsigned long long images, optimizers;  // bit i: the optimizer of row i makes a step
    int count;
};

struct Values {  // losses, and numbers of each image, whose means are told
    const float* at[VALUES];
    long long size[VALUES];
    int count;
};

// The sum over a block of 256 threads.  Each call in a kernel needs shared memory of its own.
__device__ __forceinline__ double block_sum(double value, double* of_warp) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(EVERYONE, value, distance);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < WARPS; ++warp) value += of_warp[warp];
    return value;
}

// The mean of n numbers, by a warp.
__device__ __forceinline__ double mean_of(const float* x, long long n) {
    double sum = 0;
    for (long long i = threadIdx.x % 32; i < n; i += 32) sum += x[i];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(EVERYONE, sum, distance);
    return sum / (double)n;
}

__device__ __forceinline__ bool is_number(float x) { return x - x == 0; }

// squares[player] <- the square of the norm of these gradients.  With measures, which the last player's launch has: measures <- the means of
// the values and the norms of all players, rounded to float32, so that images * measures is exact: the same totals with a fused
// multiply-add and without.  totals += images * measures, and rows move on, unless health is NaN: one of the measures is no finite number.
extern "C" __global__ void tally(Gradients gradients, double* partial, unsigned int* arrived, double* squares, Values values,
                                 float* measures, float* health, double* totals, unsigned long long* rows, Moves moves, int player,
                                 long long first, long long parts) {
    __shared__ double of_warp[WARPS], of_norm[WARPS];
    __shared__ float told[VALUES + PLAYERS];
    __shared__ float last;
    int own = gradient_of(gradients, (int)blockIdx.x);
    const float* g = gradients.at[own];
    long long from = (long long)((int)blockIdx.x - gradients.first_block[own]) * CHUNK;
    double sum = 0;
    for (long long i = from + threadIdx.x; i < from + CHUNK && i < gradients.size[own]; i += blockDim.x) sum += (double)g[i] * g[i];
    sum = block_sum(sum, of_warp);
    if (threadIdx.x == 0 && first + blockIdx.x < parts) partial[first + blockIdx.x] = sum;
    if (first + gridDim.x < parts || !last_of(arrived, gridDim.x, &last)) return;  // another launch has the rest

    sum = 0;
    for (long long i = threadIdx.x; i < parts; i += blockDim.x) sum += __ldcg(partial + i);
    sum = block_sum(sum, of_norm);
    if (threadIdx.x == 0) squares[player] = sum;
    if (!measures) return;
    for (int i = threadIdx.x / 32; i < values.count; i += WARPS) {
        double mean = mean_of(values.at[i], values.size[i]);
        if (threadIdx.x % 32 == 0) told[i] = (float)mean;
    }
    if ((int)threadIdx.x <= player) told[values.count + threadIdx.x] = (float)sqrt((int)threadIdx.x == player ? sum : squares[threadIdx.x]);
    __syncthreads();
    int all = values.count + player + 1;
    bool sound = true;
    for (int i = 0; i < all; ++i) sound = sound && is_number(told[i]);
    if (threadIdx.x == 0) health[0] = sound ? 0.0f : __int_as_float(0x7fc00000);
    if ((int)threadIdx.x < all) {
        measures[threadIdx.x] = told[threadIdx.x];
        if (totals && sound) totals[threadIdx.x] += (double)moves.images * told[threadIdx.x];
    }
    if ((int)threadIdx.x < moves.count && sound) {
        unsigned long long* row = rows + 4 * threadIdx.x;
        row[0] += moves.blocks[threadIdx.x];
        row[1] += moves.optimizers >> threadIdx.x & 1;
        row[2] += moves.images;
    }
}
