package host

// unitState is what was read of a unit, for whoever changes it.
type unitState struct{}

// podPlace is where in a manifest a container is.
type podPlace struct{}

// place is where exactly a setting is said, for whoever changes it.
type place struct{}
