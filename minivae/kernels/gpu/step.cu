// What a captured training step keeps in device memory, so that replaying it moves on; a row for every stream that it draws from:
//
//     step[0]  counter of the stream      step[1]  optimizer steps so far      step[2]  the next batch's first image      step[3]  its key
//
// Kernels of the step only read it; `advance`, the step's last kernel, is the one that writes, in one thread.  A step whose loss or gradient
// is not finite (health is not 0: tally.cu) does not move on: replayed, it is the same step again, until somebody looks.

extern "C" __global__ void advance(unsigned long long* step, const float* health, unsigned long long blocks, unsigned long long batch) {
    if (health && !(health[0] == 0)) return;
    step[0] += blocks;
    step[1] += 1;
    step[2] += batch;
}
