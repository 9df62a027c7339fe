package metrics

import (
	"math"
	"time"

	"github.com/replkv/replkv"
)

// view is a Status as of a scrape.
type view struct {
	*replkv.Status
	now time.Time
}

// statusFamily is a gauge that a Status has, or one for each value of a label.
type statusFamily struct {
	name, help string
	label      []string
	read       func(v view, emit func(value float64, labels ...string))
}

var statusFamilies = []statusFamily{
	states("replkv_role", "What the member does: 1 for the role it has, 0 for the others.", "role",
		func(v view) string { return v.Role }, "leader", "follower", "candidate", "stopped"),
	gauge("replkv_has_leader", "Whether the member knows a leader.", func(v view) float64 { return truth(v.LeaderID != "") }),
	gauge("replkv_term", "Raft's term.", func(v view) float64 { return float64(v.Term) }),
	gauge("replkv_commit_index", "Newest log entry that the member knows to be committed.",
		func(v view) float64 { return float64(v.CommitIndex) }),
	gauge("replkv_applied_index", "Newest log entry in the member's state.", func(v view) float64 { return float64(v.AppliedIndex) }),
	gauge("replkv_last_log_index", "Newest entry in the member's log.", func(v view) float64 { return float64(v.LastLogIndex) }),
	gauge("replkv_revision", "Revision of the member's state.", func(v view) float64 { return float64(v.Revision) }),
	gauge("replkv_compacted_revision", "Revision from which on the history is still there.",
		func(v view) float64 { return float64(v.CompactedRevision) }),
	gauge("replkv_swept_revision", "Revision up to which the member has removed what is superseded.",
		func(v view) float64 { return float64(v.SweptRevision) }),
	gauge("replkv_leases", "Leases in the member's state.", func(v view) float64 { return float64(v.Leases) }),
	gauge("replkv_leader_contact_age_seconds", "Time since the leader was last heard of; +Inf if never; 0 on the leader.",
		func(v view) float64 {
			if v.Role == "leader" {
				return 0
			}
			return v.age(v.LastContact)
		}),
	gauge("replkv_watchers", "Watches under way on the member.", func(v view) float64 { return float64(v.Watchers) }),
	gauge("replkv_state_bytes", "Size of the state on disk.", func(v view) float64 { return float64(v.StateBytes) }),
	gauge("replkv_quota_bytes", "Limit of the state's size; 0: the member sets none.", func(v view) float64 { return float64(v.QuotaBytes) }),
	gauge("replkv_quota_exceeded", "Whether the member refuses what makes the state grow.",
		func(v view) float64 { return truth(v.QuotaExceeded) }),
	gauge("replkv_log_bytes", "Size of the entries in the log.", func(v view) float64 { return float64(v.LogBytes) }),
	states("replkv_disk", "How the disk does: 1 for the state it is in, 0 for the others.", "state",
		func(v view) string { return v.Disk }, "ok", "stalled", "failed"),
	gauge("replkv_may_vote", "Whether the member's directory is proven to be whole, so that it may vote.",
		func(v view) float64 { return truth(v.MayVote) }),
	gauge("replkv_membership_index", "Log entry of the table of members that the member has applied.",
		func(v view) float64 { return float64(v.MembershipIndex) }),
	{"replkv_members", "Members of the cluster by whether they vote.", []string{"suffrage"}, members},
	peers("replkv_peer_contact_age_seconds", "Time since the peer last answered this member; +Inf if never.",
		func(v view, m *replkv.MemberStatus) float64 { return v.age(m.LastContact) }),
	peers("replkv_peer_error", "Whether the newest request to the peer failed.",
		func(_ view, m *replkv.MemberStatus) float64 { return truth(m.LastError != nil) }),
	ofLeader(peers("replkv_peer_match_index", "Newest log entry that the peer is known to have. Only from the leader.",
		func(_ view, m *replkv.MemberStatus) float64 { return float64(m.MatchIndex) })),
	ofLeader(peers("replkv_peer_lag_entries", "Log entries that the peer lacks. Only from the leader.",
		func(_ view, m *replkv.MemberStatus) float64 { return float64(m.Lag) })),
}

func gauge(name, help string, read func(view) float64) statusFamily {
	return statusFamily{name, help, nil, func(v view, emit func(float64, ...string)) { emit(read(v)) }}
}

// states has all values of an enumeration at all times, so that a query for one
// never finds nothing.
func states(name, help, label string, read func(view) string, values ...string) statusFamily {
	return statusFamily{name, help, []string{label}, func(v view, emit func(float64, ...string)) {
		for _, value := range values {
			emit(truth(read(v) == value), value)
		}
	}}
}

// peers has a value for each member but the store's own.
func peers(name, help string, read func(view, *replkv.MemberStatus) float64) statusFamily {
	return statusFamily{name, help, []string{"peer"}, func(v view, emit func(float64, ...string)) {
		for i := range v.Members {
			if m := &v.Members[i]; m.ID != v.ID {
				emit(read(v, m), m.ID)
			}
		}
	}}
}

// ofLeader leaves out what only a leader knows: 0 would look fine.
func ofLeader(f statusFamily) statusFamily {
	read := f.read
	f.read = func(v view, emit func(float64, ...string)) {
		if v.Role == "leader" {
			read(v, emit)
		}
	}
	return f
}

func members(v view, emit func(float64, ...string)) {
	var voters, others float64
	for _, m := range v.Members {
		if m.Nonvoter {
			others++
		} else {
			voters++
		}
	}
	emit(voters, "voter")
	emit(others, "nonvoter")
}

// age of never is +Inf, so that it is more than any limit.
func (v view) age(t time.Time) float64 {
	if t.IsZero() {
		return math.Inf(1)
	}
	return max(0, v.now.Sub(t).Seconds())
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
