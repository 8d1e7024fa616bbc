// The gradient of a bias, gb[column] = sum over rows of g act'(y), by blocks that stand beside those of a product in one launch.
//
//              width columns
//           +------+------+--+            A block adds up `span` rows of a stripe: thread (tx, ty) rows ty, ty + height, ... of column tx,
//    part 0 |block |block |  |  span      then the block its height sums as a tree (column_sum).  The last block of a stripe to come
//           +------+------+--+            adds up the parts in the same way.
//    part 1 |      |      |  |
//           +------+------+--+
#include "join.cu"

// all: 257 numbers in shared memory;  partial: (parts, stripes, width);  arrived: (stripes,)
__device__ __forceinline__ void bias_gradient(const float* g, const Slope& slope, float* gb, long long rows, int columns, long long span,
                                              float* partial, unsigned int* arrived, int block, float* all) {
    int width = 32;
    while (width / 2 >= columns) width /= 2;
    int stripes = (columns + width - 1) / width, parts = (int)((rows + span - 1) / span), stripe = block % stripes, part = block / stripes;
    int ty = (int)threadIdx.x / width, height = 256 / width, column = stripe * width + (int)threadIdx.x % width;
    long long end = rows - part * span < span ? rows : (part + 1) * span;
    float sum = 0;
    if (column < columns)
        for (long long row = part * span + ty; row < end; row += height) sum += passed(g + row * columns + column, slope);
    sum = column_sum(sum, all, width);
    if (parts > 1) {
        partial += stripe * width + (int)threadIdx.x % width;
        if (ty == 0) partial[(long long)part * stripes * width] = sum;
        if (!last_of(arrived + stripe, parts, all + 256)) return;
        sum = 0;
        for (long long other = ty; other < parts; other += height) sum += __ldcg(partial + other * stripes * width);
        sum = column_sum(sum, all, width);
    }
    if (ty == 0 && column < columns) gb[column] = sum;
}
