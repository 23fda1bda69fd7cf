/* libcuda.so.1 of a machine without a driver: every function that PyTorch looks up says "no device" (100), but for the
   question whether a context exists, whose answer is no. */
#define NO_DEVICE(name) int name(void) { return 100; }
NO_DEVICE(cuCtxGetCurrent) NO_DEVICE(cuCtxSetCurrent) NO_DEVICE(cuDeviceGet) NO_DEVICE(cuDeviceGetAttribute)
NO_DEVICE(cuDevicePrimaryCtxRetain) NO_DEVICE(cuFuncGetAttribute) NO_DEVICE(cuFuncSetAttribute)
NO_DEVICE(cuFuncSetCacheConfig) NO_DEVICE(cuGetErrorString) NO_DEVICE(cuLaunchCooperativeKernel)
NO_DEVICE(cuLaunchKernel) NO_DEVICE(cuLinkAddData_v2) NO_DEVICE(cuLinkComplete) NO_DEVICE(cuLinkCreate_v2)
NO_DEVICE(cuModuleGetFunction) NO_DEVICE(cuModuleLoad) NO_DEVICE(cuModuleLoadData) NO_DEVICE(cuModuleLoadDataEx)
NO_DEVICE(cuModuleUnload) NO_DEVICE(cuOccupancyMaxActiveBlocksPerMultiprocessor) NO_DEVICE(cuPointerGetAttribute)
NO_DEVICE(cuTensorMapEncodeTiled)
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 0; return 0; }
