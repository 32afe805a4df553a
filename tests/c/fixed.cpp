// A program at a fixed place that takes addresses of functions, and so has entries of its own for them.
#include "t.h"
#include <new>

static void with(void *object, void (*drop)(void *))
{
	HIDE(object);
	HIDE(drop);
	drop(object);
}

int main()
{
	with(malloc(5), free);
	with(::operator new(5), ::operator delete);
	void *object = ::operator new(40);
	HIDE(object);
	// Reported where the form with a size is zonal's own: nothing is replaced here.
	::operator delete(object, 4000);
}
