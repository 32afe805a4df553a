/* The first allocation of a process, and nothing at its end. */
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
	*(volatile char *)malloc(1000) = 1;
	_exit(0);
}
