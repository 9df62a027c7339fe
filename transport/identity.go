package transport

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/peerpb"
)

// The metadata of an Identity. Both keys are there, once, or none is. All that
// does not change from RPC to RPC is one value: parsed once, and one entry of
// HTTP/2's header table.
const (
	keyPrefix   = "replkv-"
	keyIdentity = keyPrefix + "identity" // see newSelf
	keyTo       = keyPrefix + "to"
)

// maxStarts bounds Identity.Starts.
const maxStarts = 64

// SetCluster changes the cluster id, and by which configuration this member
// came in: a joiner adopts them from its join answer.
func (t *Transport) SetCluster(id [16]byte, since uint64) {
	t.setSelf(func(s *Identity) { s.Cluster, s.Since = id, since })
}

// SetStarts changes what this member says of the starts of its directory.
func (t *Transport) SetStarts(starts []Start) { t.setSelf(func(s *Identity) { s.Starts = starts }) }

func (t *Transport) setSelf(change func(*Identity)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.self.Load()
	change(&s.Identity)
	t.self.Store(newSelf(s.Identity))
}

// self is this member's identity, and its encoding.
type self struct {
	Identity
	value string
}

// newSelf encodes an identity:
//
//	1;cluster (32 hex digits);group;from;addr;incarnation (32 hex digits);since;starts
//
// starts are number-boot,number-boot,... in hex. The first field is the version.
func newSelf(id Identity) *self {
	starts := make([]string, len(id.Starts))
	for i, s := range id.Starts {
		starts[i] = strconv.FormatUint(s.Number, 16) + "-" + strconv.FormatUint(s.Boot, 16)
	}
	return &self{id, strings.Join([]string{
		"1",
		hex.EncodeToString(id.Cluster[:]),
		strconv.FormatUint(id.Group, 10),
		id.From,
		id.Addr,
		hex.EncodeToString(id.Incarnation[:]),
		strconv.FormatUint(id.Since, 10),
		strings.Join(starts, ","),
	}, ";")}
}

// CanTell says whether an address fits the identity that peers are sent: gRPC wants
// printable ASCII of metadata, and the semicolon is newSelf's.
func CanTell(addr string) bool {
	return !strings.ContainsFunc(addr, func(r rune) bool { return r < ' ' || r > '~' || r == ';' })
}

// to returns the metadata for an RPC or an answer to a member.
func (s *self) to(id string) []string { return []string{keyIdentity, s.value, keyTo, id} }

// outgoing adds this member's identity to an RPC to the member of that id.
func (t *Transport) outgoing(ctx context.Context, to string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, t.self.Load().to(to)...)
}

// admit decides whether an incoming RPC is served, and returns who sent it:
// the zero Identity for a plain Jille node, which only Insecure lets in. The
// answer will carry this member's identity.
func (t *Transport) admit(ctx context.Context) (Identity, error) {
	id, err := t.welcome(ctx)
	if err != nil || id.From == "" {
		return id, err
	}
	return id, t.introduce(ctx, id.From)
}

// welcome is admit for an answer without identity: see needsNoName.
func (t *Transport) welcome(ctx context.Context) (Identity, error) {
	id, err := t.authenticate(ctx)
	if err != nil || id.From == "" {
		return id, err
	}
	if err := t.checkIdentity(id); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// needsNoName is true of what only a leader answers, who was elected by members
// that know it: to say who it is with each answer would cost a sixth of a
// follower's reads.
func needsNoName(method string) bool {
	return method == peerpb.Peer_ReadIndex_FullMethodName || method == peerpb.Peer_Forward_FullMethodName
}

// introduce sends this member's identity with the answer.
func (t *Transport) introduce(ctx context.Context, to string) error {
	return grpc.SetHeader(ctx, metadata.Pairs(t.self.Load().to(to)...))
}

// authenticate finds out who sent an RPC: the certificate is for whom the
// metadata name. Whether the peer is welcome is not decided here.
func (t *Transport) authenticate(ctx context.Context) (Identity, error) {
	if t.ctx.Err() != nil {
		return Identity{}, errClosed()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	id, present, err := t.parseIdentity(md)
	switch {
	case err != nil:
		return Identity{}, status.Error(codes.PermissionDenied, err.Error())
	case !present && t.cfg.Insecure:
		return Identity{}, nil
	case !present:
		return Identity{}, status.Error(codes.PermissionDenied, "the peer does not say who it is")
	}
	if !t.cfg.Insecure { // first: a stranger learns nothing about this member
		if err := t.checkCertificate(ctx, id.From); err != nil {
			return Identity{}, status.Errorf(codes.PermissionDenied, "peer %q: %v", id.From, err)
		}
	}
	return id, nil
}

// AnswerError says that an answer does not count: it came from somebody else
// than the member asked, as this member knows it.
type AnswerError struct{ Err error }

func (e *AnswerError) Error() string { return "answer refused: " + e.Err.Error() }
func (e *AnswerError) Unwrap() error { return e.Err }

// checkAnswer decides whether the answer to an RPC counts, by the header it
// came with: that of the member asked, in this cluster, with the right directory.
func (t *Transport) checkAnswer(to string, header metadata.MD) error {
	if err := t.judgeAnswer(to, header); err != nil {
		return &AnswerError{err}
	}
	return nil
}

func (t *Transport) judgeAnswer(to string, header metadata.MD) error {
	id, present, err := t.parseIdentity(header)
	switch {
	case err != nil:
		return refuse(fmt.Errorf("%w: answer of %s: %w", kv.ErrWrongCluster, to, err))
	case !present && t.cfg.Insecure:
		return nil // a plain Jille node
	case !present:
		return refuse(fmt.Errorf("%w: %s does not say who it is", kv.ErrWrongCluster, to))
	case id.From != to:
		return refuse(fmt.Errorf("%w: %s answers for %s", kv.ErrWrongCluster, id.From, to))
	}
	return t.checkIdentity(id)
}

func (t *Transport) checkIdentity(id Identity) error {
	switch cluster := t.self.Load().Cluster; {
	case id.Cluster != cluster && cluster == [16]byte{}:
		return refuse(fmt.Errorf("%w: %s has not joined yet", kv.ErrNoLeader, t.cfg.ID))
	case id.Cluster != cluster && id.Cluster == [16]byte{}:
		return refuse(fmt.Errorf("%w: %s has not joined yet", kv.ErrNoLeader, id.From))
	case id.Cluster != cluster:
		return refuse(fmt.Errorf("%w: %s is of %x, %s of %x", kv.ErrWrongCluster, id.From, id.Cluster, t.cfg.ID, cluster))
	case id.Group != t.cfg.Group:
		return refuse(fmt.Errorf("%w: %s speaks for group %d, %s for %d", kv.ErrWrongCluster, id.From, id.Group, t.cfg.ID, t.cfg.Group))
	case id.To != t.cfg.ID:
		return refuse(fmt.Errorf("%w: %s means to reach %s, but this is %s", kv.ErrWrongCluster, id.From, id.To, t.cfg.ID))
	}
	if t.cfg.CheckPeer == nil {
		return nil
	}
	err := t.cfg.CheckPeer(id)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*kv.Error](err); ok {
		return wireerr.ToStatus(err)
	}
	if errors.Is(err, kv.ErrRemoved) || errors.Is(err, kv.ErrStaleIdentity) {
		return refuse(err)
	}
	return status.Errorf(codes.PermissionDenied, "peer %q: %v", id.From, err)
}

// opIdentity marks errors about who the caller is, to tell them from the same
// errors about somebody whom a request speaks of.
const opIdentity = "peer identity"

// RefusedAs returns why a peer does not take this member for what it says it
// is; nil if err says anything else.
func RefusedAs(err error) error {
	if _, ours := errors.AsType[*AnswerError](err); ours {
		return nil // it was we who refused
	}
	e, ok := errors.AsType[*kv.Error](wireerr.FromStatus(err))
	if !ok || e.Op != opIdentity {
		return nil
	}
	return e.Err
}

// refuse is the answer to a request of which nothing was done, because of who
// sent it.
func refuse(err error) error {
	return wireerr.ToStatus(&kv.Error{Op: opIdentity, Outcome: kv.OutcomeNotDone, Err: err})
}

// errClosed answers everything after Close.
func errClosed() error {
	return wireerr.ToStatus(&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed})
}

// parseIdentity reads the metadata that outgoing writes.
func (t *Transport) parseIdentity(md metadata.MD) (id Identity, present bool, err error) {
	value, to := md[keyIdentity], md[keyTo]
	if len(value) == 0 && len(to) == 0 {
		return Identity{}, false, nil
	}
	if len(value) != 1 || len(to) != 1 {
		return Identity{}, true, fmt.Errorf("metadata %s and %s: want one value each, got %d and %d", keyIdentity, keyTo, len(value), len(to))
	}
	if known, ok := t.parsed.Load(value[0]); ok {
		id = known.(Identity)
	} else {
		if id, err = decodeIdentity(value[0]); err != nil {
			return Identity{}, true, fmt.Errorf("metadata %s: %w", keyIdentity, err)
		}
		t.remember(value[0], id)
	}
	id.To = to[0]
	return id, true, nil
}

// maxParsed bounds the identities that are kept parsed. There are a few of each
// member, but who reaches us may send any.
const maxParsed = 256

func (t *Transport) remember(value string, id Identity) {
	if t.parsedCount.Add(1) > maxParsed {
		t.parsed.Clear()
		t.parsedCount.Store(1)
	}
	t.parsed.Store(value, id)
}

func decodeIdentity(value string) (id Identity, err error) {
	f := strings.Split(value, ";")
	if len(f) != 8 || f[0] != "1" {
		return id, fmt.Errorf("not an identity of version 1: %q", value)
	}
	bytes16 := func(field string) (b [16]byte) {
		raw, e := hex.DecodeString(field)
		if e != nil || len(raw) != len(b) {
			err = errors.Join(err, fmt.Errorf("%q: want 32 hex digits", field))
		}
		copy(b[:], raw)
		return b
	}
	number := func(field string) uint64 {
		n, e := strconv.ParseUint(field, 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%q: want a number", field))
		}
		return n
	}
	id = Identity{Cluster: bytes16(f[1]), Group: number(f[2]), From: f[3], Addr: f[4], Incarnation: bytes16(f[5]), Since: number(f[6])}
	starts, e := parseStarts(f[7])
	if id.Starts = starts; e != nil {
		err = errors.Join(err, e)
	}
	if id.From == "" {
		err = errors.Join(err, errors.New("the peer has no name"))
	}
	return id, err
}

func parseStarts(s string) ([]Start, error) {
	if s == "" {
		return nil, nil
	}
	fields := strings.Split(s, ",")
	if len(fields) > maxStarts {
		return nil, fmt.Errorf("%d starts", len(fields))
	}
	out := make([]Start, len(fields))
	for i, f := range fields {
		number, boot, _ := strings.Cut(f, "-")
		n, err1 := strconv.ParseUint(number, 16, 64)
		b, err2 := strconv.ParseUint(boot, 16, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("starts %q: want hex pairs", s)
		}
		out[i] = Start{Number: n, Boot: b}
	}
	return out, nil
}
