/* A double of NVIDIA's management library for tests: libnvidia-ml.so.1 with two
 * GPUs, the second divided into parts (MIG).
 *
 * Names, argument types, units and constants are those of NVIDIA's NVML API
 * reference (https://docs.nvidia.com/deploy/nvml-api/). As the real library
 * does, it answers nothing before nvmlInit_v2 and refuses handles that are not
 * its own, so a handle cut to 32 bits is found out.
 *
 * The environment says how it behaves:
 *   NVML_UNSUPPORTED  names of functions that answer NVML_ERROR_NOT_SUPPORTED, or "all"
 *   NVML_NO_DRIVER    nvmlInit_v2 fails
 *   NVML_GPUS         how many GPUs there are (2)
 *   NVML_REASONS      the bits that say what holds the clock back (0)
 *   NVML_ECC          uncorrected errors since the driver was loaded (0)
 *   NVML_ECC_EVER     uncorrected errors ever (0)
 *   NVML_NO_SPARE     remapping a row of memory has failed
 *   NVML_OTHERS       other programs that compute on the GPU (0)
 *   NVML_CONTAINER    this program is not in the list
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int nvmlReturn_t;
typedef struct nvmlDevice_st {
    const char *uuid, *vbios;
    unsigned int clock_mhz, temperature_c, power_mw;
} *nvmlDevice_t;
typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory;
    unsigned int gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
};

static struct nvmlDevice_st gpus[2] = {
    {"GPU-00000000-aaaa-bbbb-cccc-000000000000", "92.00.19.00.01", 1410, 61, 249500},
    {"GPU-11111111-aaaa-bbbb-cccc-111111111111", "96.00.74.00.01", 1755, 44, 71000},
};
static struct nvmlDevice_st part = {"MIG-22222222-aaaa-bbbb-cccc-222222222222", "", 0, 0, 0};
static int open_count = 0;
static unsigned long long energy_mj = 7000000;

int double_open_count(void) { return open_count; }

static unsigned long long number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* What every question begins with; a part of a GPU answers only about its programs and name. */
static nvmlReturn_t ready(const char *function, nvmlDevice_t device) {
    const char *unsupported = getenv("NVML_UNSUPPORTED");
    if (open_count == 0) return UNINITIALIZED;
    if (device != &gpus[0] && device != &gpus[1] && device != &part) return INVALID_ARGUMENT;
    if (unsupported && (!strcmp(unsupported, "all") || strstr(unsupported, function)))
        return NOT_SUPPORTED;
    if (device == &part && strcmp(function, "nvmlDeviceGetComputeRunningProcesses_v3") &&
        strcmp(function, "nvmlDeviceGetUUID"))
        return NOT_SUPPORTED;
    return SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
    if (getenv("NVML_NO_DRIVER")) return DRIVER_NOT_LOADED;
    open_count++;
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) {
    if (open_count == 0) return UNINITIALIZED;
    open_count--;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    if (open_count == 0) return UNINITIALIZED;
    *count = number("NVML_GPUS", 2);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (open_count == 0) return UNINITIALIZED;
    if (index >= number("NVML_GPUS", 2)) return INVALID_ARGUMENT;
    *device = &gpus[index];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    nvmlDevice_t all[] = {&gpus[0], &gpus[1], &part};
    if (open_count == 0) return UNINITIALIZED;
    for (int i = 0; i < 3; i++)
        if (!strcmp(all[i]->uuid, uuid)) {
            *device = all[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    if (open_count == 0) return UNINITIALIZED;
    if (mig != &part) return INVALID_ARGUMENT;
    *device = &gpus[1];
    return SUCCESS;
}

static nvmlReturn_t text(const char *function, nvmlDevice_t device, const char *value,
                         char *answer, unsigned int length, unsigned int guaranteed) {
    nvmlReturn_t status = ready(function, device);
    if (status != SUCCESS) return status;
    if (length < guaranteed) return INSUFFICIENT_SIZE;
    strcpy(answer, value);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *answer, unsigned int length) {
    return text(__func__, device, device->uuid, answer, length, 96); /* ..._UUID_V2_BUFFER_SIZE */
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *answer, unsigned int length) {
    return text(__func__, device, device->vbios, answer, length, 32); /* ..._VBIOS_VERSION_... */
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned int *mhz) {
    nvmlReturn_t status = ready(__func__, device);
    if (status == SUCCESS) *mhz = type == 1 ? device->clock_mhz : 9; /* NVML_CLOCK_SM */
    return status;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius) {
    nvmlReturn_t status = ready(__func__, device);
    if (sensor != 0) return INVALID_ARGUMENT; /* NVML_TEMPERATURE_GPU */
    if (status == SUCCESS) *celsius = device->temperature_c;
    return status;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    nvmlReturn_t status = ready(__func__, device);
    if (status == SUCCESS) *milliwatts = device->power_mw;
    return status;
}

/* 500 J more each time that it is asked. */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *mj) {
    nvmlReturn_t status = ready(__func__, device);
    if (status == SUCCESS) *mj = energy_mj += 500000;
    return status;
}

#ifdef OLD_DRIVER /* Before 535 the function had another name. */
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                       unsigned long long *bits) {
#else
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                    unsigned long long *bits) {
#endif
    nvmlReturn_t status = ready(__func__, device);
    if (status == SUCCESS) *bits = number("NVML_REASONS", 0);
    return status;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int errors, int counter,
                                         unsigned long long *count) {
    nvmlReturn_t status = ready(__func__, device);
    if (errors != 1) return INVALID_ARGUMENT; /* NVML_MEMORY_ERROR_TYPE_UNCORRECTED */
    if (status == SUCCESS) /* NVML_VOLATILE_ECC is 0, NVML_AGGREGATE_ECC 1 */
        *count = number(counter == 0 ? "NVML_ECC" : "NVML_ECC_EVER", 0);
    return status;
}

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected,
                                       unsigned int *uncorrected, unsigned int *pending,
                                       unsigned int *failed) {
    nvmlReturn_t status = ready(__func__, device);
    if (status == SUCCESS) {
        *corrected = *uncorrected = *pending = 1;
        *failed = getenv("NVML_NO_SPARE") != NULL;
    }
    return status;
}
#endif

static nvmlReturn_t pcie(const char *function, nvmlDevice_t device, unsigned int value,
                         unsigned int *answer) {
    nvmlReturn_t status = ready(function, device);
    if (status == SUCCESS) *answer = value;
    return status;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, unsigned int *answer) {
    return pcie(__func__, device, 3, answer);
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned int *answer) {
    return pcie(__func__, device, 8, answer);
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, unsigned int *answer) {
    return pcie(__func__, device, 4, answer);
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, unsigned int *answer) {
    return pcie(__func__, device, 16, answer);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_t *found) {
    unsigned int others = number("NVML_OTHERS", 0), seen = 0;
    nvmlReturn_t status = ready(__func__, device);
    if (status != SUCCESS) return status;
    if (device == &gpus[1]) return NO_PERMISSION; /* It is divided: ask its part. */
    if (*count < others + 1) {
        *count = others + 1;
        return INSUFFICIENT_SIZE;
    }
    for (unsigned int i = 0; i < others; i++)
        found[seen++] = (nvmlProcessInfo_t){4000000000u + i, 1ull << 33, ~0u, ~0u};
    if (!getenv("NVML_CONTAINER"))
        found[seen++] = (nvmlProcessInfo_t){(unsigned int)getpid(), 1ull << 34, ~0u, ~0u};
    *count = seen;
    return SUCCESS;
}
