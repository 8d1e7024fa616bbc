// The arithmetic of a tile on tensor cores: numbers are rounded to TF32 (10 bits of fraction), products and sums are kept in float32.
//
//     8 warps, 4 down and 2 across, or 8 down where the tile is narrow; a warp owns its part of C as blocks of 16 x 8, each made by
//     mma.sync.m16n8k8:   C (16 x 8) += A (16 x 8) B (8 x 8)          PTX manual, 9.7.14
//
//     lane = 4 g + t holds      t            t+4                        2t 2t+1
//                         A  g  a0           a2          B  t  b0     C  g  c0 c1
//                            g+8 a1          a3             t+4 b1       g+8 c2 c3     b: column g

#ifndef CUDA_HOST  // the tests' host has its own
__device__ __forceinline__ unsigned int to_tf32(float x) {
    unsigned int bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ void mma_tf32(float* c, const unsigned int* a, const unsigned int* b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

template <int ROWS, int COLUMNS> struct Core {
    static constexpr int WARPS_ACROSS = COLUMNS < 64 ? 1 : 2, WARPS_DOWN = 8 / WARPS_ACROSS;
    static constexpr int DOWN = ROWS / (16 * WARPS_DOWN), ACROSS = COLUMNS / (8 * WARPS_ACROSS);  // blocks of 16 x 8 that a warp owns
    static constexpr int SIZE = DOWN * ACROSS * 4;
    float c[DOWN][ACROSS][4];

    __device__ __forceinline__ float* numbers() { return &c[0][0][0]; }

    __device__ __forceinline__ Core() {
        for (int i = 0; i < DOWN; ++i)
            for (int j = 0; j < ACROSS; ++j)
                for (int q = 0; q < 4; ++q) c[i][j][q] = 0;
    }

    __device__ __forceinline__ static float rounded(float number) { return __int_as_float((int)to_tf32(number)); }

    __device__ __forceinline__ static int top() { return (int)threadIdx.x / 32 / WARPS_ACROSS * (16 * DOWN); }
    __device__ __forceinline__ static int left() { return (int)threadIdx.x / 32 % WARPS_ACROSS * (8 * ACROSS); }

    __device__ __forceinline__ void add(const float (*a)[ROWS + PAD], const float (*b)[COLUMNS + PAD]) {
        int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 8) {
            unsigned int of_a[DOWN][4], of_b[ACROSS][2];
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int q = 0; q < 4; ++q) of_a[i][q] = (unsigned int)__float_as_int(a[k + t + q / 2 * 4][top() + 16 * i + g + q % 2 * 8]);
#pragma unroll
            for (int j = 0; j < ACROSS; ++j)
#pragma unroll
                for (int q = 0; q < 2; ++q) of_b[j][q] = (unsigned int)__float_as_int(b[k + t + q * 4][left() + 8 * j + g]);
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) mma_tf32(c[i][j], of_a[i], of_b[j]);
        }
    }

    template <class Result> __device__ __forceinline__ void put(const Result& result, int i0, int j0) const {
        int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int j = 0; j < ACROSS; ++j)
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    result.put(i0 + top() + 16 * i + g + q / 2 * 8, j0 + left() + 8 * j + 2 * t + q % 2, c[i][j][q]);
    }
};
