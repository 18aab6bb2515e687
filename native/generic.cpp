#define TIMELOCAL_MODULE _native_generic
#include "module.h"
