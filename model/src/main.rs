//! Explores the model.

fn main() {
    for scope in model::scopes::ALL {
        let explored = model::explore::explore(&model::Protocol::sound(*scope), 2);
        println!("{} {:?}", scope.name, explored);
    }
}
