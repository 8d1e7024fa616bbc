// Adam (Kingma and Ba 2015, algorithm 1) over flat parameters, in one pass over memory, whatever the number of tensors.
//
//     p, m, v   | parameter 0 |pad| parameter 1   |pad| ...     flat, as the optimizer keeps them
//     gradients   at[0]            at[1]                        wherever backward left them: the table travels with the launch
//     blocks      0  1  2          3  4  5                      CHUNK numbers each; no block crosses from one parameter to the next
//
// The step count and the learning rate lie in device memory: a captured step goes on counting, and a schedule may change the rate.
#include "common.cu"

#define TABLE 64
#define CHUNK 1024

struct Gradients {
    const float* at[TABLE];
    long long start[TABLE], size[TABLE];  // where each parameter lies in the flat arrays
    int first_block[TABLE + 1];
    int count;
};

// m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  p <- p (1 - lr decay) - lr m' / (sqrt(v') + eps)
extern "C" __global__ void adam(const unsigned long long* step, const float* rate, float* p, float* m, float* v, Gradients gradients,
                                double b1, double b2, float eps, float decay, long long n) {
    __shared__ float scale, root;
    if (threadIdx.x == 0) {  // two powers a block, in double: 1 - 0.999^1 in float32 has lost three digits
        double t = (double)(step[1] + 1);
        scale = (float)(rate[0] / (1 - pow(b1, t)));
        root = (float)sqrt(1 - pow(b2, t));
    }
    __syncthreads();
    int low = 0, high = gradients.count;  // the last parameter that starts at this block or before
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (gradients.first_block[middle] <= (int)blockIdx.x) low = middle; else high = middle;
    }
    const float* g = gradients.at[low];
    long long first = (long long)((int)blockIdx.x - gradients.first_block[low]) * CHUNK;
    float keep = 1 - rate[0] * decay;
    for (long long i = first + threadIdx.x; i < first + CHUNK && i < gradients.size[low]; i += blockDim.x) {
        long long at = gradients.start[low] + i;
        if (at >= n) break;
        m[at] = (float)b1 * m[at] + (float)(1 - b1) * g[i];
        v[at] = (float)b2 * v[at] + (float)(1 - b2) * (g[i] * g[i]);
        p[at] = keep * p[at] - scale * m[at] / (sqrtf(v[at]) / root + eps);
    }
}
