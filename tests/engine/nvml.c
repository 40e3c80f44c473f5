/* A driver for tests: exports the NVML calls that engine.gpu makes, over a machine that the environment describes.
 *
 * NVML_DEVICES    how many GPUs there are (default 2)
 * NVML_BROKEN     comma-separated calls that answer NVML_ERROR_NOT_SUPPORTED, such as "PowerUsage,Temperature"
 * NVML_LOST       the index of a GPU that has fallen off the bus
 * NVML_PID        a process that holds 1,024 MiB on GPU 0, beside a stranger's 2,048
 * NVML_USED       MiB that are used on GPU 0 (default 4,000)
 * NVML_MIG        how many slices GPU 0 is divided into
 * NVML_INIT       the status that opening the driver answers
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define TOO_SMALL 7
#define IS_LOST 15
#define MIB 1048576ULL

typedef struct { int index; } Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned int gpu, memory; } Rates;
typedef struct { unsigned int pid; unsigned long long used; unsigned int instance, compute; } Process;

#define SLICES 8 /* devices from here on are slices of GPU 0 */

static Device devices[16] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}};

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static int broken(const char *call) {
    const char *calls = getenv("NVML_BROKEN");
    return calls && strstr(calls, call) ? NOT_SUPPORTED : OK;
}

int nvmlInitWithFlags(unsigned int flags) { return setting("NVML_INIT", OK); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int status) { return status == 9 ? "Driver Not Loaded" : "Not Supported"; }

int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
    snprintf(text, length, "580.95.05");
    return broken("DriverVersion");
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = setting("NVML_DEVICES", 2);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device **device) {
    if ((int)index == setting("NVML_LOST", -1)) return IS_LOST;
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetMigMode(Device *device, unsigned int *now, unsigned int *soon) {
    *now = *soon = device->index == 0 && setting("NVML_MIG", 0) > 0;
    return device->index == 0 ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned int *count) {
    *count = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned int index, Device **slice) {
    if ((int)index >= setting("NVML_MIG", 0)) return NOT_FOUND;
    *slice = &devices[SLICES + index];
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    int index = atoi(uuid + strlen("GPU-"));
    if (!strncmp(uuid, "MIG-", 4)) {
        *device = &devices[index];
        return index < SLICES + setting("NVML_MIG", 0) ? OK : NOT_FOUND;
    }
    if (index >= setting("NVML_DEVICES", 2)) return NOT_FOUND;
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetUUID(Device *device, char *text, unsigned int length) {
    const char *kind = device->index < SLICES ? "GPU" : "MIG";
    snprintf(text, length, "%s-%08d-0000-1111-2222-333333333333", kind, device->index);
    return broken("UUID");
}

int nvmlDeviceGetName(Device *device, char *text, unsigned int length) {
    const char *whole = device->index ? "NVIDIA H200" : "NVIDIA GeForce RTX 4090";
    snprintf(text, length, "%s", device->index < SLICES ? whole : "NVIDIA A100-SXM4-40GB MIG 3g.20gb");
    return broken("Name");
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    memory->total = 24564 * MIB;
    memory->used = 4500 * MIB;
    memory->free = 20064 * MIB;
    return broken("MemoryInfo");
}

int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *memory) {
    if (device->index >= SLICES) {
        *memory = (Memory2){memory->version, 20096 * MIB, 0, 20058 * MIB, 38 * MIB};
        return OK;
    }
    int big = device->index;
    memory->total = (big ? 143771 : 24564) * MIB;
    memory->reserved = 500 * MIB;
    memory->used = (big ? 100000 : setting("NVML_USED", 4000)) * MIB;
    memory->free = memory->total - memory->reserved - memory->used;
    return broken("Memory");
}

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    *major = device->index ? 9 : 8;
    *minor = device->index ? 0 : 9;
    return broken("CudaComputeCapability");
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned int *milliwatts) {
    *milliwatts = 402500;
    return device->index < SLICES ? broken("PowerUsage") : NOT_SUPPORTED;
}

/* A thousand joules more each time that it is asked. */
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    static unsigned long long counted = 5000000;
    *millijoules = counted += 1000000;
    return broken("TotalEnergy");
}

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned int *milliwatts) {
    *milliwatts = 450000;
    return broken("PowerLimit");
}

int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned int *celsius) {
    *celsius = 73;
    return broken("Temperature");
}

int nvmlDeviceGetUtilizationRates(Device *device, Rates *rates) {
    rates->gpu = 97;
    rates->memory = 40;
    return broken("Utilization");
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned int *count, Process *found) {
    if (broken("Processes")) return NOT_SUPPORTED;
    if (device->index) {
        *count = 0;
        return OK;
    }
    if (!found) {
        *count = 2;
        return TOO_SMALL;
    }
    *count = 2;
    found[0] = (Process){setting("NVML_PID", 0), 1024 * MIB, 0, 0};
    found[1] = (Process){4194304, 2048 * MIB, 0, 0}; /* above Linux's largest pid: never a process here */
    return OK;
}
