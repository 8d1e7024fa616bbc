// Adam (Kingma and Ba 2015, algorithm 1) over flat parameters, in one pass over memory, whatever the number of tensors.
//
//     p, m, v   | parameter 0 |pad| parameter 1   |pad| ...     flat, as the optimizer keeps them; the gradients: gradients.cu
//
// The step count and the learning rate lie in device memory: a captured step goes on counting, and a schedule may change the rate.
#include "gradients.cu"

// m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  p <- p (1 - lr decay) - lr m' / (sqrt(v') + eps), in update number step[1];
// with `squares` g is scaled down to a norm of at most `clip` before.  Nothing where health is not 0.
extern "C" __global__ void adam(const unsigned long long* step, const float* rate, const float* health, const double* squares,
                                float* __restrict__ p, float* __restrict__ m, float* __restrict__ v, Gradients gradients, double clip,
                                double b1, double b2, float eps, float decay, long long n) {
    __shared__ float scale, root, factor;
    if (health && !(health[0] == 0)) return;
    if (threadIdx.x == 0) {  // two powers a block, in double: 1 - 0.999^1 in float32 has lost three digits
        double t = (double)step[1];
        scale = (float)(rate[0] / (1 - pow(b1, t)));
        root = (float)sqrt(1 - pow(b2, t));
        factor = squares ? (float)fmin(clip / sqrt(squares[0]), 1.0) : 1.0f;
    }
    __syncthreads();
    int own = gradient_of(gradients, (int)blockIdx.x);
    const float* g = gradients.at[own];
    long long first = (long long)((int)blockIdx.x - gradients.first_block[own]) * CHUNK;
    float keep = 1 - rate[0] * decay;
    for (long long i = first + threadIdx.x; i < first + CHUNK && i < gradients.size[own]; i += blockDim.x) {
        long long at = gradients.start[own] + i;
        if (at >= n) break;
        float slope = __ldg(g + i) * factor;
        m[at] = (float)b1 * m[at] + (float)(1 - b1) * slope;
        v[at] = (float)b2 * v[at] + (float)(1 - b2) * (slope * slope);
        p[at] = keep * p[at] - scale * m[at] / (sqrtf(v[at]) / root + eps);
    }
}
