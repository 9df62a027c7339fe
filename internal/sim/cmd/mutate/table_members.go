package main

// Who counts, and who may vote.
var ofMembers = []mutant{
	{
		name: "a member that has lost its data votes",
		file: "proof.go",
		old:  "return errors.New(p.reason())",
		new:  "return nil",
		by:   trial{pkg: "replkvtest", run: "^TestBelowFloor$", why: `leads without the newest write`},
	},
	{
		name: "a member forgets that it has lost its data",
		file: "proof.go",
		old:  "db.id.lost = true",
		new:  "db.id.lost = false",
		by:   trial{pkg: "replkvtest", run: "^TestLostIsRemembered$|^TestBelowFloorTwice$", why: `may vote`},
	},
	{
		name: "a change of members counts a non-voter",
		file: "membership.go",
		old:  "if x.ID != removed && (!x.Nonvoter || x.ID == added) {",
		new:  "if x.ID != removed {",
		by:   trial{pkg: "replkvtest", run: "^TestNonvoterIsNoQuorum$", why: `Remove: `},
	},
	{
		name: "a non-voter is promoted before it has caught up",
		file: "membership.go",
		old:  "if why := m.lacks(id); why != \"\" {",
		new:  "if why := m.lacks(id); why == \"?\" {",
		by:   trial{pkg: "replkvtest", run: "^TestAddVoterGivesUp$", why: `m3 is not reached: .*, outcome`},
	},
	{
		name: "a directory that is another's is accepted",
		file: "store/member.go",
		old:  "case c.Incarnation != m.Incarnation:",
		new:  "case c.Incarnation == none:",
		by:   trial{pkg: "store", run: "^TestMemberIdentity$", why: `incarnation 2 of 1 .*: <nil>, want directory is not`},
	},
	{
		name: "a removed member comes back",
		file: "store/member.go",
		old:  "case !known, m.Added > c.Since:",
		new:  "case !known:",
		by:   trial{pkg: "store", run: "^TestMemberIdentity$", why: `: <nil>, want member was removed`},
	},
}
