#define TIMELOCAL_MODULE _native_avx2
#include "module.h"
