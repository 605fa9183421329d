#ifndef HOST_H
#define HOST_H

/* Print what machine this is: kernel, processors, memory, how long it has existed. */
void print_host(void);

#endif
