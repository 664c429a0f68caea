package frontend

import "sync"

// maxSpare is how many goroutines of a crew may wait for work.
const maxSpare = 256

// crew is the goroutines that wait for answers. One that is done takes the next
// query: its stack has grown to what that takes, and growing one costs more than all else
// that a query needs of the scheduler.
type crew struct {
	work  chan func() // unbuffered: a send succeeds if one is spare
	tasks *sync.WaitGroup
	spare chan struct{} // a token for each one that is
}

func newCrew(tasks *sync.WaitGroup) crew {
	return crew{work: make(chan func()), tasks: tasks, spare: make(chan struct{}, maxSpare)}
}

// do has one of the crew, or a new one, call task.
func (c *crew) do(task func()) {
	select {
	case c.work <- task:
	default:
		c.tasks.Go(func() { c.serve(task) })
	}
}

func (c *crew) serve(task func()) {
	for ok := true; ok; {
		task()
		select {
		case c.spare <- struct{}{}:
		default:
			return
		}
		task, ok = <-c.work
		<-c.spare
	}
}

// dismiss ends those that are spare. There must be no work any more.
func (c *crew) dismiss() { close(c.work) }
