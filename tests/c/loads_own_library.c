/* A C program that opens the plugin it is given. */
#include "t.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
	void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	int (*words)(int);

	if (!plugin)
		FAIL("%s", dlerror());
	words = (int (*)(int))dlsym(plugin, "words");
	CHECK(words && words(300) == 300);
	return 0;
}
