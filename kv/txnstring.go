package kv

import (
	"fmt"
	"strings"
)

// String is for logs and tests.
func (c Compare) String() string {
	target := [...]string{"target(0)", "version", "create", "mod", "value", "lease", "unchanged"}
	relation := [...]string{"?", "=", "!=", "<", ">"}
	if int(c.Target) >= len(target) || int(c.Is) >= len(relation) {
		return fmt.Sprintf("target(%d) %v relation(%d)", c.Target, c.Range, c.Is)
	}
	switch c.Target {
	case TargetValue:
		return fmt.Sprintf("value %v %s %q", c.Range, relation[c.Is], c.Value)
	case TargetUnchanged:
		return fmt.Sprintf("unchanged %v since %d", c.Range, c.Number)
	}
	return fmt.Sprintf("%s %v %s %d", target[c.Target], c.Range, relation[c.Is], c.Number)
}

// String is for logs and tests.
func (op Op) String() string {
	var b strings.Builder
	switch op.Kind {
	case OpSet:
		fmt.Fprintf(&b, "set %q=%q", op.Range.from, op.Value)
	case OpGet:
		fmt.Fprintf(&b, "get %v", op.Range)
	case OpDelete:
		fmt.Fprintf(&b, "delete %v", op.Range)
	case OpTxn:
		return fmt.Sprintf("(%v)", op.Txn)
	default:
		return fmt.Sprintf("op(%d)", op.Kind)
	}
	if op.Lease != 0 {
		fmt.Fprintf(&b, " lease %d", op.Lease)
	}
	if op.Limit > 0 {
		fmt.Fprintf(&b, " limit %d", op.Limit)
	}
	for _, o := range []struct {
		set  bool
		name string
	}{{op.ReturnPrev, " prev"}, {op.Reverse, " reverse"}, {op.KeysOnly, " keys"}, {op.CountOnly, " count"}} {
		if o.set {
			b.WriteString(o.name)
		}
	}
	return b.String()
}

// String is for logs and tests.
func (t Txn) String() string {
	return fmt.Sprintf("if %v then %v else %v", t.If, t.Then, t.Else)
}
