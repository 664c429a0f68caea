package main

// Main is the program, for the test binary that runs as it.
func Main() { main() }
