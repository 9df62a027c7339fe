package client

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// Backup writes all data, as of one revision, to w: what replkv.Restore reads, and
// replkv.VerifyBackup checks. All that was acknowledged before the call is in it; with
// kv.Local, what one member has. It returns the bytes written.
//
// Until the first byte came another endpoint may take over; an error after it is final,
// and what is in w of no use. It takes as long as it takes, if ctx has no deadline, but
// each part must come within RequestTimeout. Errors of w are returned as they are, wrapped.
func (c *Client) Backup(ctx context.Context, w io.Writer, opts ...kv.ReadOption) (int64, error) {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	req := &replkvv1.BackupRequest{Read: readToProto(&o)}
	s := newStream[replkvv1.BackupResponse](ctx, c, "Backup")
	defer s.close()
	written := int64(0)
	err := s.open(func(ctx context.Context, rpc services, opts ...grpc.CallOption) (grpc.ServerStreamingClient[replkvv1.BackupResponse], error) {
		return rpc.Backup(ctx, req, opts...)
	})
	for ; err == nil && s.msg != nil; err = s.next() {
		n, werr := w.Write(s.msg.GetData())
		if written += int64(n); werr != nil {
			return written, fmt.Errorf("client: Backup: %w", werr)
		}
	}
	return written, err
}
