"""How compiled code is made, kept, and run: machine code on disk, threads, scratch memory. Knows no kernel."""
