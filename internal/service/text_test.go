package service

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
)

// The exchange as somebody with grpcurl sees it.
func TestTextKV(t *testing.T) {
	c, ctx := replkvv1.NewTextKVClient(serve(t, kvtest.NewFake())), t.Context()
	parse := func(s string, m proto.Message) {
		if err := protojson.Unmarshal([]byte(s), m); err != nil {
			t.Fatal(err)
		}
	}
	show := func(m proto.Message, err error) string {
		if err != nil {
			return status.Code(err).String()
		}
		b, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), " ", "")
	}
	var set replkvv1.TextSetRequest
	var get replkvv1.TextGetRequest
	var del replkvv1.TextDeleteRequest
	parse(`{"key":"username","value":"admin"}`, &set)
	parse(`{"key":"username"}`, &get)
	parse(`{"key":"username"}`, &del)
	doSet := func() string { m, err := c.Set(ctx, &set); return show(m, err) }
	doGet := func() string { m, err := c.Get(ctx, &get); return show(m, err) }
	doDelete := func() string { m, err := c.Delete(ctx, &del); return show(m, err) }
	for i, step := range []struct {
		do   func() string
		want string
	}{
		{doGet, "NotFound"},
		{doDelete, `{"success":true}`},
		{doSet, `{"success":true}`},
		{doGet, `{"value":"admin"}`},
		{doDelete, `{"success":true}`},
		{doGet, "NotFound"},
		{doDelete, `{"success":true}`},
	} {
		if got := step.do(); got != step.want {
			t.Errorf("step %d: got %s, want %s", i, got, step.want)
		}
	}
}

func TestAValueThatIsNotText(t *testing.T) {
	f := kvtest.NewFake()
	conn := serve(t, f)
	for _, v := range []string{"\xff", "ok\x80", "\xed\xa0\x80"} {
		if _, err := f.Set(t.Context(), "k", []byte(v)); err != nil {
			t.Fatal(err)
		}
		_, err := replkvv1.NewTextKVClient(conn).Get(t.Context(), &replkvv1.TextGetRequest{Key: "k"})
		wantStatus(t, err, codes.FailedPrecondition, "", refused)
		if !strings.Contains(status.Convert(err).Message(), "KV/Get") {
			t.Errorf("%v does not point to KV/Get", err)
		}
		res, err := replkvv1.NewKVClient(conn).Get(t.Context(), &replkvv1.GetRequest{Key: []byte("k")})
		if err != nil || string(res.GetItem().GetValue()) != v {
			t.Errorf("got %v, %v", res, err)
		}
	}
}

// Text goes in as UTF-8 only: protobuf itself refuses anything else.
func TestARequestThatIsNotText(t *testing.T) {
	c := replkvv1.NewTextKVClient(serve(t, kvtest.NewFake()))
	if _, err := c.Set(t.Context(), &replkvv1.TextSetRequest{Key: "k", Value: "\xff"}); err == nil {
		t.Error("taken")
	}
}
