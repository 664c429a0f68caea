package sandbox_test

import "os"

func needed(o order)  { o.seal() }
func cost(o order)    { o.seal() }
func panicDeep(n int) {}
func waitForSignal()  { os.Exit(0) }
