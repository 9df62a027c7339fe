package service

import (
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// watchPartBytes is where a part of a change ends. A single item may exceed it,
// up to the limit of a stored value.
const watchPartBytes = 1 << 20

// Watch sends the changes, and first where it begins: a client whose stream
// breaks goes on elsewhere from what it has heard last. A slow client holds one
// message here, and the backend's loop stands still meanwhile.
func (s *kvServer) Watch(req *replkvv1.WatchRequest, stream grpc.ServerStreamingServer[replkvv1.WatchResponse]) error {
	r, err := keyRange(req.GetRange())
	if err != nil {
		return notDone("Watch", err)
	}
	opts, err := watchOptions(req)
	if err != nil {
		return notDone("Watch", err)
	}
	ctx := stream.Context()
	after := kv.Revision(req.GetAfterRevision())
	if req.AfterRevision == nil {
		if after, err = s.b.Revision(ctx); err != nil {
			return notDone("Watch", err)
		}
		opts = append(opts, kv.AfterRevision(after))
	}
	if err := stream.Send(&replkvv1.WatchResponse{Revision: int64(after), Progress: true}); err != nil {
		return err
	}
	for c, err := range s.b.Watch(ctx, r, opts...) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return notDone("Watch", err)
		}
		if err := sendChange(stream, &c); err != nil {
			return err
		}
	}
	return nil
}

func watchOptions(req *replkvv1.WatchRequest) ([]kv.WatchOption, error) {
	var out []kv.WatchOption
	add := func(given bool, o kv.WatchOption) {
		if given {
			out = append(out, o)
		}
	}
	ms := min(req.GetProgressMs(), math.MaxInt64/int64(time.Millisecond))
	add(req.AfterRevision != nil, kv.AfterRevision(kv.Revision(req.GetAfterRevision())))
	add(req.GetWithPrevious(), kv.WithPrevious())
	add(req.GetOnlyPuts(), kv.OnlyPuts())
	add(req.GetOnlyDeletes(), kv.OnlyDeletes())
	add(ms != 0, kv.WithProgress(time.Duration(ms)*time.Millisecond))
	o := kv.WatchOptionsOf(out)
	return out, o.Validate()
}

// sendChange sends a change in parts.
func sendChange(stream grpc.ServerStreamingServer[replkvv1.WatchResponse], c *kv.Change) error {
	msg := &replkvv1.WatchResponse{Revision: int64(c.Revision), Progress: c.Progress}
	size := 0 // encoded, of msg.Events; invariant: <= watchPartBytes, or there is but one
	add := func(e *replkvv1.Event) error {
		n := protowire.SizeTag(2) + protowire.SizeBytes(proto.Size(e))
		if size > 0 && size+n > watchPartBytes {
			msg.Continued = true
			if err := stream.Send(msg); err != nil {
				return err
			}
			msg = &replkvv1.WatchResponse{Revision: int64(c.Revision)}
			size = 0
		}
		msg.Events = append(msg.Events, e)
		size += n
		return nil
	}
	for i := range c.Events {
		e, prev := eventToProto(&c.Events[i])
		if err := add(e); err != nil {
			return err
		}
		if prev == nil {
			continue
		}
		if err := add(prev); err != nil {
			return err
		}
	}
	return stream.Send(msg)
}

// eventToProto returns the event, and its previous item apart if they might not
// fit one message.
func eventToProto(ev *kv.Event) (e, prev *replkvv1.Event) {
	e = &replkvv1.Event{Kind: replkvv1.Event_KIND_PUT, Item: itemToProto(&ev.Item)}
	if ev.Kind == kv.EventDelete {
		e.Kind = replkvv1.Event_KIND_DELETE
	}
	switch {
	case ev.Prev == nil:
	case len(ev.Item.Value)+len(ev.Prev.Value) <= watchPartBytes:
		e.Prev = itemToProto(ev.Prev)
	default:
		prev = &replkvv1.Event{Kind: replkvv1.Event_KIND_PREVIOUS, Prev: itemToProto(ev.Prev)}
	}
	return e, prev
}
