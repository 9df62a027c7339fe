package service

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// scanPageBytes is where a page ends. Larger pages gain nothing measurable and
// cost memory per stream; a single item may exceed it, up to the limit of a
// stored value.
const scanPageBytes = 1 << 20

// Scan sends the items in pages. Between pages the backend's loop stands
// still, so a slow client holds nothing but its own memory. It ends when the
// stream's ctx does.
func (s *kvServer) Scan(req *replkvv1.ScanRequest, stream grpc.ServerStreamingServer[replkvv1.ScanResponse]) error {
	r, err := keyRange(req.GetRange())
	if err != nil {
		return notDone("Scan", err)
	}
	opts, err := scanOptions(req)
	if err != nil {
		return notDone("Scan", err)
	}
	ctx := stream.Context()
	p := page{stream: stream}
	for item, err := range s.b.Scan(ctx, r, opts...) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if sendErr := p.flush(); sendErr != nil { // what was read before the error is still good
				return sendErr
			}
			return notDone("Scan", err)
		}
		if err := p.add(&item); err != nil {
			return err
		}
	}
	return p.flush()
}

// page is the message in the making.
type page struct {
	stream grpc.ServerStreamingServer[replkvv1.ScanResponse]
	items  []*replkvv1.Item
	bytes  int // encoded size of items; invariant: <= scanPageBytes, or there is but one
}

func (p *page) add(it *kv.Item) error {
	item := itemToProto(it)
	n := protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(item))
	if p.bytes+n > scanPageBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.items = append(p.items, item)
	p.bytes += n
	return nil
}

func (p *page) flush() error {
	if len(p.items) == 0 {
		return nil
	}
	msg := &replkvv1.ScanResponse{Items: p.items}
	p.items, p.bytes = nil, 0
	return p.stream.Send(msg)
}
