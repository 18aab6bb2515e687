#define TIMELOCAL_MODULE _native_avx512
#include "module.h"
