/* `seccomp_exec ANSWER:CALL,.. PROGRAM ARGS..`: starts a program under a filter, with LD_PRELOAD from ZT_PRELOAD, so that
 * the launcher itself runs without the library. */
#include "filter.h"

int main(int argc, char **argv)
{
	const char *library = getenv("ZT_PRELOAD");

	CHECK(argc >= 3);
	if (library)
		setenv("LD_PRELOAD", library, 1);
	filter_install(argv[1]);
	execvp(argv[2], argv + 2);
	FAIL("%s: errno %d", argv[2], errno);
}
