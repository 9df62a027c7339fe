package service

import (
	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// Backup sends what the backend writes, in parts of at most scanPageBytes. A slow client
// holds a checkpoint, and nothing else.
func (s *clusterServer) Backup(req *replkvv1.BackupRequest, stream grpc.ServerStreamingServer[replkvv1.BackupResponse]) error {
	opts, err := readOptions(req.GetRead())
	if err != nil {
		return notDone("Backup", err)
	}
	w := &backupWriter{stream: stream}
	if err := s.b.Backup(stream.Context(), w, opts...); err != nil {
		if w.err != nil {
			return w.err
		}
		return notDone("Backup", err)
	}
	return nil
}

type backupWriter struct {
	stream grpc.ServerStreamingServer[replkvv1.BackupResponse]
	err    error // of the stream
}

func (w *backupWriter) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		part := p[n:min(len(p), n+scanPageBytes)]
		if w.err = w.stream.Send(&replkvv1.BackupResponse{Data: part}); w.err == nil {
			n += len(part)
		}
	}
	return n, w.err
}
