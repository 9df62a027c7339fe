package lease

// timers is a heap of leases, the one first whose timer rings first.
type timers []*entry

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].next.Before(t[j].next) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].at, t[j].at = i, j
}

// Push is for package heap.
func (t *timers) Push(x any) {
	e := x.(*entry)
	e.at = len(*t)
	*t = append(*t, e)
}

// Pop is for package heap.
func (t *timers) Pop() any {
	last := len(*t) - 1
	e := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	e.at = -1
	return e
}
