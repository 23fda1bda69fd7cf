/* Preloaded in front of libc10_cuda.so: autograd then starts a thread for a device that is not there. */
static int count = 0;
void pretend_count(int n) { count = n; }
signed char _ZN3c104cuda12device_countEv(void) { return (signed char)count; }
