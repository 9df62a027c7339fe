package transport

import (
	"context"
	"fmt"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/replkv/replkv/kv"
)

// AppendEntries implements raft.Transport. Heartbeats are unary RPCs on the
// control lane; all else goes over the peer's append stream, cut into parts
// that fit a message. The response is that of the first part that did not
// succeed, else of the last.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(args) {
		return t.raftCall("heartbeat", id, target, laneControl, t.cfg.Timeouts.Heartbeat, func(ctx context.Context, cc *grpc.ClientConn) error {
			m, err := pb.NewRaftTransportClient(cc).AppendEntries(ctx, encodeAppendRequest(args))
			if err == nil {
				*resp = decodeAppendResponse(m)
			}
			return err
		})
	}
	p, err := t.peer(string(id), string(target))
	if err != nil {
		return err
	}
	rest, mine := p.ahead.begin(args)
	if rest == nil {
		last, _ := lastOf(args)
		*resp = raft.AppendEntriesResponse{RPCHeader: args.RPCHeader, Term: args.Term, LastLog: last, Success: true}
		return nil
	}
	parts, err := splitAppend(rest)
	for i := 0; i < len(parts) && err == nil; i++ {
		rest = parts[i]
		var answer *raft.AppendEntriesResponse
		if answer, err = p.appendOne(rest); err == nil {
			if *resp = *answer; !resp.Success {
				break
			}
		}
	}
	if mine {
		p.ahead.ended(rest, resp, err)
	}
	if err != nil {
		return t.raftError("AppendEntries", id, err)
	}
	return nil
}

// appendOne sends a request that fits a message.
func (p *peer) appendOne(req *raft.AppendEntriesRequest) (*raft.AppendEntriesResponse, error) {
	m, err := p.append(encodeAppendRequest(req))
	if err != nil {
		return nil, err
	}
	resp := decodeAppendResponse(m)
	return &resp, nil
}

// isHeartbeat knows raft's heartbeats: nothing but a term and who leads.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}

// logFrameBytes is more than an entry's numbers and framing take on the wire.
const logFrameBytes = 128

func logBytes(l *raft.Log) int { return len(l.Data) + len(l.Extensions) + logFrameBytes }

// splitAppend cuts a request into requests of at most MaxMessageBytes. Raft
// bounds a batch by count only, and one above the receiver's limit would be
// retried unchanged for ever.
//
// Each part is what a leader could have sent with fewer entries: it follows the
// last entry of the part before, and its commit index does not go beyond what
// the receiver has verified by then.
func splitAppend(r *raft.AppendEntriesRequest) ([]*raft.AppendEntriesRequest, error) {
	// The addresses in the header are the only rest without a fixed size.
	//lint:ignore SA1019 raft still sends the deprecated field
	base := len(r.ID) + len(r.Addr) + len(r.Leader) + logFrameBytes
	var parts []*raft.AppendEntriesRequest
	rest, size, from := *r, base, 0
	for i, l := range r.Entries {
		n := logBytes(l)
		if base+n > MaxMessageBytes {
			return nil, fmt.Errorf("entry %d of %d bytes can never be sent (at most %d): %w", l.Index, len(l.Data)+len(l.Extensions), MaxEntryBytes, kv.ErrTooLarge)
		}
		if size+n > MaxMessageBytes {
			part := rest
			part.Entries = r.Entries[from:i]
			last := r.Entries[i-1]
			part.LeaderCommitIndex = min(r.LeaderCommitIndex, last.Index)
			parts = append(parts, &part)
			rest.PrevLogEntry, rest.PrevLogTerm = last.Index, last.Term
			size, from = base, i
		}
		size += n
	}
	if parts == nil {
		return []*raft.AppendEntriesRequest{r}, nil
	}
	rest.Entries = r.Entries[from:]
	return append(parts, &rest), nil
}
