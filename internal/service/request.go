package service

import (
	"math"
	"net"
	"regexp"
	"time"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// What requests say, checked and turned into the terms of package kv.

func key(k []byte) (string, error) {
	if len(k) == 0 {
		return "", invalid("the key is empty")
	}
	return string(k), nil
}

// keyRange refuses a missing range: it must not mean everything.
func keyRange(r *replkvv1.Range) (kv.Range, error) {
	switch {
	case r == nil:
		return kv.Range{}, invalid("the range is missing")
	case r.GetOpen() && len(r.GetTo()) > 0:
		return kv.Range{}, invalid("the range is open and has an end")
	case r.GetOpen():
		return kv.From(string(r.GetFrom())), nil
	}
	out := kv.Between(string(r.GetFrom()), string(r.GetTo()))
	return out, out.Validate()
}

func readOptions(o *replkvv1.ReadOptions) ([]kv.ReadOption, error) {
	var out []kv.ReadOption
	switch {
	case o.GetAtLeast() < 0 || o.GetRevision() < 0 || o.GetMaxStalenessMs() < 0:
		return nil, invalid("a negative revision or staleness")
	case o.GetLocal() && o.GetAtLeast() > 0:
		return nil, invalid("both local and at_least")
	case o.GetMaxStalenessMs() > 0 && (o.GetLocal() || o.GetAtLeast() > 0):
		return nil, invalid("max_staleness_ms with local or at_least")
	case o.GetLocal():
		out = append(out, kv.Local())
	case o.GetAtLeast() > 0:
		out = append(out, kv.AtLeast(kv.Revision(o.GetAtLeast())))
	case o.GetMaxStalenessMs() > 0:
		out = append(out, kv.MaxStaleness(time.Duration(min(o.GetMaxStalenessMs(), math.MaxInt64/int64(time.Millisecond)))*time.Millisecond))
	}
	if o.GetRevision() > 0 {
		out = append(out, kv.AtRevision(kv.Revision(o.GetRevision())))
	}
	return out, nil
}

func getOptions(o *replkvv1.ReadOptions) ([]kv.GetOption, error) {
	read, err := readOptions(o)
	out := make([]kv.GetOption, len(read))
	for i := range read {
		out[i] = read[i]
	}
	return out, err
}

func scanOptions(req *replkvv1.ScanRequest) ([]kv.ScanOption, error) {
	read, err := readOptions(req.GetRead())
	if err != nil {
		return nil, err
	}
	if req.GetLimit() < 0 {
		return nil, invalid("limit %d", req.GetLimit())
	}
	out := []kv.ScanOption{kv.Limit(int(min(req.GetLimit(), math.MaxInt)))}
	for _, o := range read {
		out = append(out, o)
	}
	if req.GetReverse() {
		out = append(out, kv.Reverse())
	}
	if req.GetKeysOnly() {
		out = append(out, kv.KeysOnly())
	}
	return out, nil
}

// condition returns nil without one.
func condition(c *replkvv1.Condition) (kv.WriteCondition, error) {
	switch {
	case c == nil:
		return nil, nil
	case c.GetIfRevision() < 0:
		return nil, invalid("a condition on revision %d", c.GetIfRevision())
	}
	return kv.IfRevision(kv.Revision(c.GetIfRevision())), nil
}

func compactRevision(rev int64) error {
	if rev < 1 {
		return invalid("revision %d", rev)
	}
	return nil
}

func deleteOptions(c *replkvv1.Condition, returnPrev bool) ([]kv.DeleteOption, error) {
	var out []kv.DeleteOption
	cond, err := condition(c)
	if cond != nil {
		out = append(out, cond)
	}
	if returnPrev {
		out = append(out, kv.ReturnPrev())
	}
	return out, err
}

// validID is what package replkv takes for a member's id.
var validID = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)

func memberID(id string) error {
	if !validID.MatchString(id) {
		return invalid("the member's id %.64q is not 1 to 63 of [a-z0-9.-]", id)
	}
	return nil
}

func newMember(id, addr string) error {
	if err := memberID(id); err != nil {
		return err
	}
	return address(addr)
}

// address wants what members can dial: no port that the system would choose,
// and no host that means any.
func address(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	switch ip := net.ParseIP(host); {
	case err != nil || port == "" || port == "0":
		return invalid("the address %.256q is not host:port", addr)
	case host == "" || ip != nil && ip.IsUnspecified():
		return invalid("the address %.256q is not one that members can dial", addr)
	}
	return nil
}

// ifIndex is the condition of a change, if there is one.
func ifIndex(index *uint64) []kv.MemberOption {
	if index == nil {
		return nil
	}
	return []kv.MemberOption{kv.IfMembership(*index)}
}
