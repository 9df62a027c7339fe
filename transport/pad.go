package transport

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// promptBytes is how large a message must be for gRPC to write it at once. Of a smaller
// one its writer first yields to all other goroutines, in case more is to be written
// (grpc-go's loopyWriter, minBatchSize): the apply of an entry, or a sync, goes before an
// answer that a commit waits for.
const promptBytes = 1000

// padNumber is of a field that no message has; receivers skip it.
const padNumber = 1999

var padding = protoreflect.RawFields(protowire.AppendBytes(protowire.AppendTag(nil, padNumber, protowire.BytesType), make([]byte, promptBytes)))

// prompt pads a message that a commit waits for, if gRPC would not write it at once.
func prompt[M proto.Message](m M) M {
	if proto.Size(m) < promptBytes {
		m.ProtoReflect().SetUnknown(padding)
	}
	return m
}
