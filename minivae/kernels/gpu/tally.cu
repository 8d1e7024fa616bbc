// What a training step leaves behind: what its loss is made of, the norm of its gradient, and whether it may move the model.
//
//     gradients  ->  partial[block] = sum of squares of a block's numbers        the last block:
//                    partial, loss, reconstruction, KL  ->  squares, measures, totals, health, rows
//
// All sums are in double and in one order.  Nothing of it need be read by the CPU before the next step.  A row of a captured step, one for
// each stream that it draws from, lies in device memory, so that replaying it moves on:
//
//     row[0]  counter of the stream      row[1]  optimizer steps so far      row[2]  the next batch's first image      row[3]  its key
//
// Kernels before this one only read them.  A step whose loss or gradient is not finite (health is not 0) does not move on: replayed, it is
// the same step again, until somebody looks.
#include "gradients.cu"
#include "join.cu"

#define STREAMS 64

struct Moves {
    unsigned long long blocks[STREAMS];  // of random numbers that were drawn
    unsigned long long images;
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

__device__ __forceinline__ double of_thread(const float* x, long long n) {
    double sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    return sum;
}

__device__ __forceinline__ bool is_number(float x) { return x - x == 0; }

// measures: the loss, mean reconstruction, mean KL, norm of the gradient.  totals += images * measures, and rows move on, unless the step is
// not to count: health 0, or NaN where the loss or the norm is no finite number.  Without measures: squares alone.
extern "C" __global__ void tally(Gradients gradients, double* partial, unsigned int* arrived, double* squares, const float* loss,
                                 const float* reconstruction, const float* kl, float* measures, float* health, double* totals,
                                 unsigned long long* rows, Moves moves, long long reconstructions, long long kls, long long first,
                                 long long parts) {
    __shared__ double of_warp[WARPS], of_norm[WARPS], of_reconstruction[WARPS], of_kl[WARPS];
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
    if (threadIdx.x == 0) squares[0] = sum;
    if (!measures) return;
    double likelihood = block_sum(of_thread(reconstruction, reconstructions), of_reconstruction);
    double divergence = block_sum(of_thread(kl, kls), of_kl);
    // rounded to float32, so that images * measures is exact: the same totals with a fused multiply-add and without
    float norm = (float)sqrt(sum);
    bool sound = is_number(loss[0]) && is_number(norm);
    if (threadIdx.x == 0) {
        float all[4] = {loss[0], (float)(likelihood / (double)reconstructions), (float)(divergence / (double)kls), norm};
        health[0] = sound ? 0.0f : __int_as_float(0x7fc00000);
        for (int i = 0; i < 4; ++i) {
            measures[i] = all[i];
            if (totals && sound) totals[i] += (double)moves.images * all[i];
        }
    }
    if ((int)threadIdx.x < moves.count && sound) {
        unsigned long long* row = rows + 4 * threadIdx.x;
        row[0] += moves.blocks[threadIdx.x];
        row[1] += 1;
        row[2] += moves.images;
    }
}
