package health

import (
	"cmp"
	"fmt"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// reach judges who answers.
func (j *judge) reach() {
	if len(j.up) == 0 {
		j.add(Critical, NoAnswer, 0, Finding{Text: "no member answers", Evidence: j.silence(), Next: "on each master: steward doctor -u etcd"})
	}
	for i := range j.View.Answers {
		j.endpoint(&j.View.Answers[i])
	}
	for _, m := range j.agreed.Members {
		if j.View.ByID(m.ID) != nil {
			continue
		}
		if m.Name == "" {
			kind := "voter"
			if m.Learner {
				kind = "learner"
			}
			j.add(Warning, NeverStarted, m.ID, Finding{
				Text: "it was added as a " + kind + " and has never started", Evidence: strings.Join(m.PeerURLs, ", "),
				Next: fmt.Sprintf("start it with its plan (steward member join PLAN), or: steward member remove %016x", m.ID),
			})
			continue
		}
		j.silent(m)
	}
}

// endpoint judges one endpoint that was asked.
func (j *judge) endpoint(a *probe.Answer) {
	who := Finding{Member: a.Endpoint}
	switch {
	case a.AuthRefused:
		if a.MemberID != 0 || a.Named != 0 {
			who.Member = ""
		}
		who.Text, who.Next = "it answers, but does not tell this user everything", "name a user with the role root, or show a certificate whose common name is one"
		if a.AuthErr != nil {
			who.Evidence, who.Next = a.AuthErr.Error(), cmp.Or(fail.HintOf(a.AuthErr), who.Next)
		}
		j.add(Warning, AuthRefused, max(a.MemberID, namedIfNone(a)), who)
	case a.Err != nil && a.Given && a.Named == 0:
		who.Text, who.Evidence, who.Next = "this endpoint does not answer, and no member names it", a.Err.Error(), cmp.Or(fail.HintOf(a.Err), "check --endpoints")
		j.add(Warning, EndpointBad, 0, who)
	case a.Err == nil && a.Named != 0 && a.Named != a.MemberID:
		j.add(Warning, Misrouted, a.Named, Finding{
			Text: "its client URL leads to another member", Evidence: fmt.Sprintf("%s is answered by %s", a.Endpoint, j.name(a.MemberID)),
			Next: "set --advertise-client-urls of " + j.name(a.Named) + " to an address that leads to it from every host",
		})
	}
	if a.Err == nil {
		for _, text := range a.Errors {
			if !strings.Contains(text, "no leader") { // told apart
				j.add(Warning, ServerError, a.MemberID, Finding{Text: "it reports an error", Evidence: text, Next: "on its host: steward doctor -u etcd"})
			}
		}
	}
}

func namedIfNone(a *probe.Answer) uint64 {
	if a.MemberID != 0 {
		return 0
	}
	return a.Named
}

// silent judges a member that started once and does not answer now.
func (j *judge) silent(m probe.Member) {
	var why []string
	hint := ""
	for _, a := range j.View.Answers {
		if a.Named == m.ID && a.Err == nil {
			return // its URL leads to another member, which is told
		}
		if a.Named != m.ID {
			continue
		}
		if a.AuthRefused {
			return // it does answer
		}
		why = append(why, fmt.Sprintf("%s: %v", a.Endpoint, a.Err))
		hint = cmp.Or(fail.HintOf(a.Err), "steward config show")
	}
	f := Finding{Text: "it does not answer from here", Evidence: strings.Join(why, "; "), Next: "on its host: steward doctor -u etcd; when it is lost: steward member replace " + j.argument(m.ID)}
	switch {
	case len(m.ClientURLs) == 0:
		f.Text, f.Evidence = "it advertises no client URL, so nobody can ask it", strings.Join(m.PeerURLs, ", ")
		f.Next = "set --advertise-client-urls on its host"
	case len(why) == 0:
		f.Evidence, f.Confidence = "it was not asked: "+strings.Join(m.ClientURLs, ", "), Possible
	case strings.Contains(f.Evidence, "certificate") || strings.Contains(f.Evidence, "TLS"):
		f.Next = hint // it is there, and the way to it is wrong
	}
	j.add(Warning, Unreachable, m.ID, f)
}

// silence is why each endpoint says nothing, at most four of them.
func (j *judge) silence() string {
	var all []string
	for _, a := range j.View.Answers {
		if a.Err != nil {
			all = append(all, fmt.Sprintf("%s: %v", a.Endpoint, a.Err))
		}
	}
	if n := len(all); n > 4 {
		all = append(all[:4], fmt.Sprintf("and %d more", n-4))
	}
	return strings.Join(all, "; ")
}
