/* zonal.h - what libzonal.so offers beyond malloc.
 *
 * Programs need none of this to run on zonal. Link with -lzonal, or look the functions up by
 * dlsym(RTLD_DEFAULT, ...) to work with and without the library. */
#ifndef ZONAL_H
#define ZONAL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZONAL_FORMAT_TEXT 0
#define ZONAL_FORMAT_JSON 1

/* Writes the statistics to a file descriptor. 0, or -1 with errno. Allocates nothing. */
int zonal_stats_print(int fd, int format);

/* Gives about `bytes` of cold memory back to the system; returns the bytes given back. */
size_t zonal_reclaim(size_t bytes);

/* Compares the allocator's counters and lists with each other: 0 if all agree. -1 after one line
 * on stderr if not. For tests; other threads should not allocate meanwhile. */
int zonal_validate(void);

/* "0.1.0" */
const char *zonal_version(void);

#ifdef __cplusplus
}
#endif
#endif
