package metrics

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/replkv/replkv"
)

var update = flag.Bool("update", false, "write the golden file anew")

// fake is a store that says what a test wants.
type fake struct {
	status  replkv.Status
	metrics replkv.Metrics
	calls   atomic.Int32
}

func (f *fake) Status() replkv.Status   { f.calls.Add(1); return f.status }
func (f *fake) Metrics() replkv.Metrics { f.calls.Add(1); return f.metrics }

// fixed is when the tests take place.
var fixed = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// leader is a store with something of everything.
func leader() *fake {
	before := func(d time.Duration) time.Time { return fixed.Add(-d) }
	f := &fake{status: replkv.Status{
		ID: "a", Addr: "a:1", Role: "leader", LeaderID: "a", LeaderAddr: "a:1", Term: 7,
		CommitIndex: 90, AppliedIndex: 89, LastLogIndex: 91, LastContact: fixed,
		Revision: 60, CompactedRevision: 1, Leases: 5, StateBytes: 4096, Watchers: 3, LogBytes: 2048, QuotaBytes: 1 << 20, QuotaExceeded: true, Disk: "ok", MembershipIndex: 55, MayVote: true,
		Members: []replkv.MemberStatus{
			{Member: replkv.Member{ID: "a", Addr: "a:1"}, LastContact: fixed},
			{Member: replkv.Member{ID: "b", Addr: "b:1"}, LastContact: before(1500 * time.Millisecond), MatchIndex: 91},
			{Member: replkv.Member{ID: "c", Addr: "c:1"}, LastError: errors.New("refused"), LastContact: before(time.Minute), MatchIndex: 11, Lag: 80},
			{Member: replkv.Member{ID: "d", Addr: "d:1", Nonvoter: true}, LastError: errors.New("refused"), Lag: 91},
		},
	}}
	counts := reflect.ValueOf(&f.metrics).Elem()
	for i := range counts.NumField() {
		if v := counts.Field(i); v.Kind() == reflect.Uint64 {
			v.SetUint(uint64(1001 + i))
		}
	}
	f.metrics.WriteLatency = replkv.Histogram{Bounds: []float64{0.001, 0.01, 0.1}, Counts: []uint64{3, 2, 0, 1}, Sum: 0.75}
	f.metrics.SyncLatency = replkv.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{0, 5, 0}, Sum: 0.03}
	return f
}

func collect(f *fake, labels prometheus.Labels) *collector {
	c := NewCollector(f, labels).(*collector)
	c.now = func() time.Time { return fixed }
	return c
}

// scrape is what Prometheus gets of the collectors. Package testutil would do,
// but it needs a module that importers of replkv would inherit.
func scrape(t *testing.T, collectors ...prometheus.Collector) string {
	t.Helper()
	r := prometheus.NewRegistry()
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestExposition(t *testing.T) {
	const golden = "testdata/leader.golden"
	got := scrape(t, collect(leader(), nil))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant %s (go test -update writes it anew)", got, golden)
	}
	problems, err := promlint.New(strings.NewReader(got)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A field that is added to Metrics is shown, too.
func TestEveryCountIsShown(t *testing.T) {
	f := leader()
	got := scrape(t, collect(f, nil))
	counts := reflect.ValueOf(f.metrics)
	histograms := 0
	for i := range counts.NumField() {
		if name := counts.Type().Field(i).Name; counts.Field(i).Kind() == reflect.Uint64 {
			if n := counts.Field(i).Uint(); !strings.Contains(got, `{member="a"} `+strconv.FormatUint(n, 10)+"\n") {
				t.Errorf("Metrics.%s is not shown", name)
			}
		} else {
			histograms++
		}
	}
	if histograms != len(histogramFamilies) {
		t.Errorf("%d fields of Metrics are no counts, %d histograms are shown", histograms, len(histogramFamilies))
	}
}

func TestTwoStoresInOneRegistry(t *testing.T) {
	a, b := leader(), leader()
	b.status.ID = "b"
	got := scrape(t, collect(a, nil), collect(b, nil))
	for _, want := range []string{`replkv_term{member="a"} 7`, `replkv_term{member="b"} 7`, `replkv_peer_lag_entries{member="b",peer="c"} 80`} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	// Members of two clusters may have one name.
	got = scrape(t, collect(a, prometheus.Labels{"store": "users"}), collect(a, prometheus.Labels{"store": "orders"}))
	for _, want := range []string{`replkv_term{member="a",store="users"} 7`, `replkv_term{member="a",store="orders"} 7`} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	r := prometheus.NewRegistry()
	if err := errors.Join(r.Register(collect(a, nil))); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(collect(a, nil)); err == nil {
		t.Error("two stores that nothing tells apart are registered")
	}
}

func TestLabelsThatCannotBe(t *testing.T) {
	for _, labels := range []prometheus.Labels{{"peer": "x"}, {"a\xff": "x"}, {"a": "\xff"}} {
		if err := prometheus.NewRegistry().Register(NewCollector(leader(), labels)); err == nil {
			t.Errorf("%q are registered", labels)
		}
	}
}

// What a store says that has just begun, that has no quorum, or that stopped.
func TestOtherStates(t *testing.T) {
	empty := &fake{status: replkv.Status{ID: "a", Role: "follower"}}
	follower := leader()
	follower.status.Role, follower.status.LeaderID, follower.status.LastContact = "follower", "b", fixed.Add(-3*time.Second)
	stopped := leader()
	stopped.status = replkv.Status{ID: "a", Role: "stopped", Disk: "failed", Err: errors.New("disk failed")}
	for _, c := range []struct {
		name      string
		store     *fake
		has, lack []string
	}{
		{"begun", empty, []string{`replkv_leader_contact_age_seconds{member="a"} +Inf`, `replkv_has_leader{member="a"} 0`,
			`replkv_disk{member="a",state="ok"} 0`, `replkv_members{member="a",suffrage="voter"} 0`, `replkv_write_duration_seconds_count{member="a"} 0`}, []string{"replkv_peer"}},
		{"follower", follower, []string{`replkv_leader_contact_age_seconds{member="a"} 3`, `replkv_role{member="a",role="follower"} 1`,
			`replkv_role{member="a",role="leader"} 0`, `replkv_has_leader{member="a"} 1`, `replkv_peer_contact_age_seconds{member="a",peer="c"} 60`},
			[]string{"replkv_peer_lag_entries", "replkv_peer_match_index"}},
		{"stopped", stopped, []string{`replkv_role{member="a",role="stopped"} 1`, `replkv_disk{member="a",state="failed"} 1`,
			`replkv_has_leader{member="a"} 0`, `replkv_may_vote{member="a"} 0`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scrape(t, collect(c.store, nil))
			for _, want := range c.has {
				if !strings.Contains(got, want+"\n") {
					t.Errorf("no %s in\n%s", want, got)
				}
			}
			for _, name := range c.lack {
				if strings.Contains(got, name) {
					t.Errorf("there is %s in\n%s", name, got)
				}
			}
		})
	}
}

// One scrape looks once: all it shows is of one moment.
func TestOneLookPerScrape(t *testing.T) {
	f := leader()
	c := collect(f, nil)
	f.calls.Store(0)
	scrape(t, c)
	if n := f.calls.Load(); n != 2 {
		t.Errorf("%d calls, not one of Status and one of Metrics", n)
	}
}

// The page for operators has every metric, and nothing else.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range statusFamilies {
		names = append(names, f.name)
	}
	for _, f := range counterFamilies {
		names = append(names, f.name)
	}
	for _, f := range histogramFamilies {
		names = append(names, f.name)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "\n| `"+name) {
			t.Errorf("the table does not have %s", name)
		}
	}
	for _, word := range regexp.MustCompile(`\breplkv_[a-z_]+`).FindAllString(string(page), -1) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(word, "")
		if !slices.Contains(names, word) && !slices.Contains(names, base) {
			t.Errorf("the page has %s, which is no metric", word)
		}
	}
}
