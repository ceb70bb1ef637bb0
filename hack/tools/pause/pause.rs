//! What runs in a pod before and beside its containers: nothing, for as long as the pod lives.

fn main() {
    loop {
        std::thread::park();
    }
}
