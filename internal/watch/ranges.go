package watch

import (
	"cmp"
	"slices"

	"github.com/replkv/replkv/kv"
)

// ranges finds the watchers of a key: those of exactly that key in a map, the
// others in a tree of intervals, which is rebuilt when it is asked after a
// change.
type ranges struct {
	exact map[string][]*watcher
	wide  map[*watcher]struct{}
	tree  []interval // in order of from; the middle of each part is its root
	stale bool       // tree lacks a change of wide
}

// interval is a node: a watcher's range, and how far the ranges of the part of
// which it is the root reach.
type interval struct {
	from, to string // to is exclusive, and meaningless when open
	open     bool
	w        *watcher
	reach    string
	endless  bool // reach has no end
}

// exactKey returns the key if r is the range of one.
func exactKey(r kv.Range) (string, bool) {
	from, to, open := r.Bounds()
	return from, !open && len(to) == len(from)+1 && to[:len(from)] == from && to[len(from)] == 0
}

func (x *ranges) add(w *watcher) {
	if key, ok := exactKey(w.o.Range); ok {
		if x.exact == nil {
			x.exact = map[string][]*watcher{}
		}
		x.exact[key] = append(x.exact[key], w)
		return
	}
	if x.wide == nil {
		x.wide = map[*watcher]struct{}{}
	}
	x.wide[w] = struct{}{}
	x.stale = true
}

func (x *ranges) remove(w *watcher) {
	key, ok := exactKey(w.o.Range)
	if !ok {
		delete(x.wide, w)
		x.stale = true
		return
	}
	rest := slices.DeleteFunc(x.exact[key], func(o *watcher) bool { return o == w })
	if len(rest) == 0 {
		delete(x.exact, key)
	} else {
		x.exact[key] = rest
	}
}

// each calls fn with every watcher whose range holds the key.
func (x *ranges) each(key []byte, fn func(*watcher)) {
	for _, w := range x.exact[string(key)] {
		fn(w)
	}
	if x.stale {
		x.rebuild()
	}
	stab(x.tree, key, fn)
}

func (x *ranges) rebuild() {
	clear(x.tree)
	x.tree, x.stale = x.tree[:0], false
	for w := range x.wide {
		from, to, open := w.o.Range.Bounds()
		x.tree = append(x.tree, interval{from: from, to: to, open: open, w: w})
	}
	slices.SortFunc(x.tree, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	extend(x.tree)
}

// extend sets how far each part reaches.
func extend(part []interval) (reach string, endless bool) {
	if len(part) == 0 {
		return "", false
	}
	root := &part[len(part)/2]
	root.reach, root.endless = root.to, root.open
	for _, side := range [][]interval{part[:len(part)/2], part[len(part)/2+1:]} {
		to, open := extend(side)
		root.reach, root.endless = max(root.reach, to), root.endless || open
	}
	return root.reach, root.endless
}

func stab(part []interval, key []byte, fn func(*watcher)) {
	for len(part) > 0 {
		middle := len(part) / 2
		root := &part[middle]
		if !root.endless && root.reach <= string(key) {
			return
		}
		stab(part[:middle], key, fn)
		if root.from > string(key) {
			return
		}
		if root.open || root.to > string(key) {
			fn(root.w)
		}
		part = part[middle+1:]
	}
}
