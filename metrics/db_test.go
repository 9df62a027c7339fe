package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/replkv/replkv/replkvtest"
)

// Two stores of one process are seen side by side, the one also after its end.
func TestStores(t *testing.T) {
	a, b := replkvtest.Open(t), replkvtest.Open(t)
	for range 3 {
		if _, err := a.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	ca, cb := NewCollector(a, prometheus.Labels{"store": "a"}), NewCollector(b, prometheus.Labels{"store": "b"})
	wants := func(lines ...string) {
		t.Helper()
		got := strings.ReplaceAll(scrape(t, ca, cb), `member="`+a.Status().ID+`",`, "")
		for _, line := range lines {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("no %s in\n%s", line, got)
			}
		}
	}
	wants(`replkv_writes_total{store="a"} 3`, `replkv_writes_total{store="b"} 0`, `replkv_write_duration_seconds_count{store="a"} 3`,
		`replkv_role{role="leader",store="a"} 1`, `replkv_role{role="leader",store="b"} 1`, `replkv_disk{state="ok",store="a"} 1`,
		`replkv_may_vote{store="a"} 1`, `replkv_members{store="a",suffrage="voter"} 1`)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wants(`replkv_role{role="stopped",store="b"} 1`, `replkv_has_leader{store="b"} 0`, `replkv_role{role="leader",store="a"} 1`)
}
