// What a training step leaves behind: what its loss is made of, the norm of its gradient, and whether it may move the model.
//
//     gradients  ->  partial[block] = sum of squares of a block's numbers        partial, log p(x | z), KL  ->  measures, totals, health
//
// All sums are in double and in one order.  Nothing of it need be read by the CPU before the next step.
#include "gradients.cu"

// The sum over a block of 256 threads.  Each call in a kernel needs shared memory of its own.
__device__ __forceinline__ double block_sum(double value, double* of_warp) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(EVERYONE, value, distance);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < WARPS; ++warp) value += of_warp[warp];
    return value;
}

extern "C" __global__ void sum_of_squares(Gradients gradients, double* partial, long long first, long long n) {
    __shared__ double of_warp[WARPS];
    int own = gradient_of(gradients, (int)blockIdx.x);
    const float* g = gradients.at[own];
    long long from = (long long)((int)blockIdx.x - gradients.first_block[own]) * CHUNK;
    double sum = 0;
    for (long long i = from + threadIdx.x; i < from + CHUNK && i < gradients.size[own]; i += blockDim.x) sum += (double)g[i] * g[i];
    sum = block_sum(sum, of_warp);
    if (threadIdx.x == 0 && first + blockIdx.x < n) partial[first + blockIdx.x] = sum;
}

__device__ __forceinline__ double of_thread(const float* x, long long n) {
    double sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    return sum;
}

__device__ __forceinline__ bool is_number(float x) { return x - x == 0; }

// measures: the loss, -mean log p(x | z), mean KL, norm of the gradient.  totals += images * measures, unless the step is not to count:
// health 0, or NaN where the loss or the norm is no finite number.  One block.
extern "C" __global__ void tally(const float* loss, const float* log_likelihood, const float* kl, const double* partial, float* measures,
                                 float* health, double* totals, long long likelihoods, long long kls, long long parts, long long images) {
    __shared__ double of_likelihood[WARPS], of_kl[WARPS], of_norm[WARPS];
    double likelihood = block_sum(of_thread(log_likelihood, likelihoods), of_likelihood);
    double divergence = block_sum(of_thread(kl, kls), of_kl);
    double squares = 0;
    for (long long i = threadIdx.x; i < parts; i += blockDim.x) squares += partial[i];
    squares = block_sum(squares, of_norm);
    if (threadIdx.x > 0) return;
    // rounded to float32, so that images * measures is exact: the same totals with a fused multiply-add and without
    float norm = (float)sqrt(squares);
    float all[4] = {loss[0], (float)(-likelihood / (double)likelihoods), (float)(divergence / (double)kls), norm};
    bool sound = is_number(loss[0]) && is_number(norm);
    health[0] = sound ? 0.0f : __int_as_float(0x7fc00000);
    for (int i = 0; i < 4; ++i) {
        measures[i] = all[i];
        if (totals && sound) totals[i] += (double)images * all[i];
    }
}
