/* `tls_full EATER ZONAL`: copies of a library that takes static thread-local storage are opened until one is refused,
 * then zonal's. */
#include "t.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
	char path[64];
	int opened = 0;

	CHECK(argc == 3);
	for (;; opened++) {
		/* The loader knows files by their inode: each needs a copy. */
		snprintf(path, sizeof path, "/proc/self/fd/%d", memfd_create("eater", 0));
		int from = open(argv[1], O_RDONLY), to = open(path, O_WRONLY);
		static char bytes[1 << 16];
		ssize_t n;

		CHECK(from >= 0 && to >= 0 && opened < 200);
		while ((n = read(from, bytes, sizeof bytes)) > 0)
			CHECK(write(to, bytes, n) == n);
		close(from);
		close(to);
		if (!dlopen(path, RTLD_NOW))
			break;
	}
	CHECK(opened > 0 && strstr(dlerror(), "TLS"));
	void *zonal = dlopen(argv[2], RTLD_NOW);

	if (zonal) {
		void *(*take)(size_t) = (void *(*)(size_t))dlsym(zonal, "malloc");
		void (*give)(void *) = (void (*)(void *))dlsym(zonal, "free");
		char *p = take(1000);

		memset(p, 1, 1000);
		give(p);
	} else {
		CHECK(strstr(dlerror(), "TLS"));
	}
	void *p = malloc(100);
	CHECK(p);
	free(p);
	return 0;
}
