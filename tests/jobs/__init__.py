"""Jobs: the store on both engines, one gateway, and several of which one is killed."""
