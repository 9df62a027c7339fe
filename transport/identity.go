package transport

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// The metadata of an Identity. All keys are there, once, or none is.
const (
	keyPrefix      = "replkv-"
	keyCluster     = keyPrefix + "cluster" // 32 hex digits
	keyGroup       = keyPrefix + "group"
	keyFrom        = keyPrefix + "from"
	keyTo          = keyPrefix + "to"
	keyIncarnation = keyPrefix + "incarnation" // 32 hex digits
	keyStart       = keyPrefix + "start"
)

// outgoing adds this member's identity to an RPC to the member of that id.
func (t *Transport) outgoing(ctx context.Context, to string) context.Context {
	cluster := t.cluster.Load()
	return metadata.AppendToOutgoingContext(ctx,
		keyCluster, hex.EncodeToString(cluster[:]),
		keyGroup, strconv.FormatUint(t.cfg.Group, 10),
		keyFrom, t.cfg.ID,
		keyTo, to,
		keyIncarnation, hex.EncodeToString(t.cfg.Incarnation[:]),
		keyStart, strconv.FormatUint(t.cfg.Start, 10),
	)
}

// admit decides whether an incoming RPC is served, and returns who sent it:
// the zero Identity for a plain Jille node, which only Insecure lets in.
func (t *Transport) admit(ctx context.Context) (Identity, error) {
	if t.ctx.Err() != nil {
		return Identity{}, errClosed()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	id, present, err := parseIdentity(md)
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
	if err := t.checkIdentity(id); err != nil {
		return Identity{}, err
	}
	return id, nil
}

func (t *Transport) checkIdentity(id Identity) error {
	switch cluster := *t.cluster.Load(); {
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
	if errors.Is(err, kv.ErrRemoved) || errors.Is(err, kv.ErrWrongCluster) {
		return refuse(err)
	}
	return status.Errorf(codes.PermissionDenied, "peer %q: %v", id.From, err)
}

// refuse is the answer to a request of which nothing was done.
func refuse(err error) error {
	return wireerr.ToStatus(&kv.Error{Outcome: kv.OutcomeNotDone, Err: err})
}

// errClosed answers everything after Close.
func errClosed() error { return refuse(kv.ErrClosed) }

// parseIdentity reads the metadata that outgoing writes.
func parseIdentity(md metadata.MD) (id Identity, present bool, err error) {
	for k := range md {
		present = present || strings.HasPrefix(k, keyPrefix)
	}
	if !present {
		return Identity{}, false, nil
	}
	one := func(key string) string {
		v := md.Get(key)
		if len(v) != 1 {
			err = errors.Join(err, fmt.Errorf("metadata %s: want one value, got %d", key, len(v)))
			return ""
		}
		return v[0]
	}
	bytes16 := func(key string) (b [16]byte) {
		raw, e := hex.DecodeString(one(key))
		if e != nil || len(raw) != len(b) {
			err = errors.Join(err, fmt.Errorf("metadata %s: want 32 hex digits", key))
		}
		copy(b[:], raw)
		return b
	}
	number := func(key string) uint64 {
		n, e := strconv.ParseUint(one(key), 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("metadata %s: want a number", key))
		}
		return n
	}
	id = Identity{
		Cluster: bytes16(keyCluster), Group: number(keyGroup),
		From: one(keyFrom), To: one(keyTo),
		Incarnation: bytes16(keyIncarnation), Start: number(keyStart),
	}
	if id.From == "" {
		err = errors.Join(err, errors.New("the peer has no name"))
	}
	return id, true, err
}
