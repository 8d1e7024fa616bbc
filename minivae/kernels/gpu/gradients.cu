// The gradients of a model lie wherever backward left them: their table travels with the launch.
//
//     gradients   at[0]            at[1]            ...         at most TABLE of them
//     blocks      0  1  2          3  4  5                      CHUNK numbers each; no block crosses from one to the next
#include "common.cu"

#define TABLE 64
#define CHUNK 1024

struct Gradients {
    const float* at[TABLE];
    long long start[TABLE], size[TABLE];  // where each parameter lies in the flat arrays
    int first_block[TABLE + 1];
    int count;
};

// the last gradient that starts at this block or before
__device__ __forceinline__ int gradient_of(const Gradients& gradients, int block) {
    int low = 0, high = gradients.count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (gradients.first_block[middle] <= block) low = middle; else high = middle;
    }
    return low;
}
